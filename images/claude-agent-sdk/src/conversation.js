// One conversation: its turns, one after the other, and what was said in it.

import { randomUUID } from 'node:crypto'
import { isRefusal } from './errors.js'
import { Ledger } from './ledger.js'
import { options } from './options.js'
import { blocks } from './prompt.js'
import { Reply } from './reply.js'
import * as transcript from './transcript.js'

/** How long the SDK may take to end a turn that it was asked to interrupt. */
const INTERRUPT_GRACE_MS = 2000
/** How long its program may take to end once it has answered. */
const END_GRACE_MS = 5000

/** See the module. */
export class Conversation {
  #name
  #ledger
  #sdk
  #projects
  #env
  #tell
  /** The turn that runs. */
  #running
  /** The turn that ran last, so that the file need not be read for it. */
  #latest = []
  /** The SDK's session, once it is known, and whether the model's API has refused what was said last in it. */
  #at

  constructor({ name, folder, sdk, home, env, tell }) {
    this.#name = name
    this.#ledger = new Ledger(folder, name)
    this.#sdk = sdk
    this.#projects = transcript.projects(home, env)
    this.#env = env
    this.#tell = tell
  }

  create(title) {
    this.#ledger.append([{ opened: { title, at: Date.now() } }], { sync: true })
  }

  isRunning() {
    return this.#running !== undefined
  }

  /** As opencode describes a session. */
  summary() {
    const { opened, messages } = this.#ledger.read()
    const created = opened.at ?? 0
    const updated = messages.at(-1)?.info.time.created ?? created
    return { id: this.#name, title: opened.title ?? '', version: '1', time: { created, updated } }
  }

  messages() {
    return this.#ledger.read().messages
  }

  messagesOf(message) {
    const isOf = ({ info }) => info.id === message || info.parentID === message
    const latest = this.#latest.filter(isOf)
    return latest.length > 0 ? latest : this.messages().filter(isOf)
  }

  /** Takes over what was said in another pod. */
  async restore(messages, agent) {
    const records = messages.flatMap(({ info, parts }) => [
      { info: { ...info, sessionID: this.#name } },
      ...parts.map((part) => ({ part: { ...part, sessionID: this.#name, messageID: info.id } })),
    ])
    this.#ledger.append(records, { sync: true })
    await this.#goOn(agent)
  }

  /** Runs a turn and returns the reply. */
  async run({ message, parts, system }, agent) {
    if (!agent) throw new Error('no agent is bound')
    if (this.#running) throw new Error('a turn runs already')
    const stop = new AbortController()
    this.#running = { stop }
    try {
      return await this.#run({ message, parts, system, agent, stop })
    } finally {
      this.#running = undefined
      this.#tell({ type: 'session.status', properties: { sessionID: this.#name, status: { type: 'idle' } } })
      this.#tell({ type: 'session.idle', properties: { sessionID: this.#name } })
    }
  }

  /** Has the running turn end soon. */
  async abort() {
    if (!this.#running) return
    const { stop, query } = this.#running
    this.#running.wasAborted = true
    // Asked to interrupt itself the SDK still writes down what was said; ended from outside it may not.
    within(INTERRUPT_GRACE_MS, stop)
    await query?.interrupt().catch(() => stop.abort())
  }

  async #run({ message, parts, system, agent, stop }) {
    const running = this.#running
    this.#tell({ type: 'session.status', properties: { sessionID: this.#name, status: { type: 'busy' } } })
    const start = await this.#goOn(agent)
    let session = start.resume ?? start.sessionId
    const user = this.#put(message, parts)
    const reply = new Reply({ user: user.info, model: agent.model, cwd: agent.workspace, ledger: this.#ledger, tell: this.#tell })
    reply.begin()
    this.#latest = [user, reply.message()]
    let failure
    let answered = () => {}
    const answer = new Promise((resolve) => (answered = resolve))
    try {
      const given = options({ agent, env: this.#env, session: start, system, abortController: stop })
      running.query = this.#sdk.query({ prompt: prompt(parts, answer), options: given })
      if (running.wasAborted) this.abort()
      for await (const said of running.query) {
        reply.take(said)
        if (said.type === 'result') {
          answered()
          within(END_GRACE_MS, stop)
          session = said.session_id ?? session
        }
      }
    } catch (error) {
      failure = error
    }
    answered()
    const ended = reply.end({ wasAborted: running.wasAborted, failure })
    this.#note({ session, refused: isRefusal(ended.info.error) })
    this.#latest = [user, ended]
    return ended
  }

  /** Writes the user's message down; the SDK has not seen it yet. */
  #put(id, parts) {
    const info = { id, sessionID: this.#name, role: 'user', time: { created: Date.now() } }
    const owned = parts.map((part) => ({ ...part, sessionID: this.#name, messageID: id }))
    this.#ledger.append([{ info }, ...owned.map((part) => ({ part }))], { sync: true })
    this.#tell({ type: 'message.updated', properties: { sessionID: this.#name, info } })
    for (const part of owned) this.#tell({ type: 'message.part.updated', properties: { sessionID: this.#name, part } })
    return { info, parts: owned }
  }

  /** How the SDK goes on with this conversation. */
  async #goOn(agent) {
    const { sdk, messages } = this.#at ? { sdk: this.#at } : this.#ledger.read()
    this.#at = sdk ?? { session: this.#name.slice('ses_'.length) }
    if (!this.#at.refused && transcript.exists(this.#projects, this.#at.session)) return { resume: this.#at.session }
    // A session in which something was refused is left: it would be sent again with every turn.
    const session = this.#at.refused ? randomUUID() : this.#at.session
    const known = transcript.write(this.#projects, {
      session,
      workspace: agent.workspace,
      messages: withoutRefused(messages ?? this.messages()),
    })
    if (!known) return { sessionId: session }
    const read = await this.#sdk.getSessionMessages(session, { dir: agent.workspace, limit: 1 })
    if (read.length === 0) throw new Error('the SDK does not find the conversation that was written for it')
    return { resume: session }
  }

  /** A command of the user may have begun another session (`/clear`). */
  #note(at) {
    const { session, refused } = this.#at
    this.#at = at
    if (at.session !== session || at.refused !== (refused ?? false)) this.#ledger.append([{ sdk: at }])
  }
}

/** The messages but for those that the model's API has refused, and the replies that say so. */
function withoutRefused(messages) {
  const refused = new Set(messages.filter(({ info }) => isRefusal(info.error)).map(({ info }) => info.parentID))
  return messages.filter(({ info }) => !refused.has(info.id) && !refused.has(info.parentID))
}

/** Ends the SDK's program if it does not end by itself. */
function within(ms, stop) {
  setTimeout(() => stop.abort(), ms).unref()
}

/** One message. The SDK takes an interruption only while its input is open, that is until there is an answer. */
async function* prompt(parts, answer) {
  yield { type: 'user', message: { role: 'user', content: blocks(parts) }, parent_tool_use_id: null }
  await answer
}
