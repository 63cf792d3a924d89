// The methods of the protocol (see rpc.js). Nothing is kept here that a restart would lose: conversations are in the home, and the
// runner binds the agent again.

import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { Conversation } from './conversation.js'
import { options } from './options.js'
import { NOT_THERE, RpcError } from './rpc.js'

const NAME = /^ses_[0-9a-f-]{36}$/

/** See the module. */
export class Harness {
  #sdk
  #home
  #env
  #tell
  #agent
  #open = new Map()

  constructor({ sdk, home, env, tell }) {
    this.#sdk = sdk
    this.#home = home
    this.#env = env
    this.#tell = tell
  }

  methods() {
    return {
      warm: (params) => this.#warm(params),
      bind: (agent) => {
        this.#agent = agent
      },
      open: ({ title }) => {
        const conversation = `ses_${randomUUID()}`
        this.#conversation(conversation).create(title)
        return { conversation }
      },
      knows: ({ conversation }) => this.#knows(conversation),
      turn: ({ conversation, ...turn }) => this.#find(conversation).run(turn, this.#agent),
      abort: ({ conversation }) => this.#find(conversation).abort(),
      works: () => [...this.#open.values()].some((conversation) => conversation.isRunning()),
      messages: ({ conversation }) => this.#find(conversation).messages(),
      messages_of: ({ conversation, message }) => this.#find(conversation).messagesOf(message),
      restore: ({ conversation, messages }) => this.#find(conversation).restore(messages, this.#agent),
      sessions: () => this.#sessions(),
    }
  }

  /** The program is large: its first start reads it from the disk. */
  async #warm({ workspace }) {
    const agent = { workspace, model: 'warm', base_url: 'http://127.0.0.1:9', token: 'none', mcp_servers: [] }
    const warm = await this.#sdk.startup({ options: options({ agent, env: this.#env, session: { persistSession: false } }) })
    warm.close()
  }

  #folder() {
    return path.join(this.#home, '.paddock', 'claude-agent-sdk')
  }

  #conversation(name) {
    let known = this.#open.get(name)
    if (!known) {
      known = new Conversation({
        name,
        folder: this.#folder(),
        sdk: this.#sdk,
        home: this.#home,
        env: this.#env,
        tell: this.#tell,
      })
      this.#open.set(name, known)
    }
    return known
  }

  #knows(name) {
    // It becomes part of a path.
    return NAME.test(name) && (this.#open.has(name) || fs.existsSync(path.join(this.#folder(), `${name}.jsonl`)))
  }

  #find(name) {
    if (!this.#knows(name)) throw new RpcError(NOT_THERE, `there is no conversation ${name}`)
    return this.#conversation(name)
  }

  #sessions() {
    if (!fs.existsSync(this.#folder())) return []
    const names = fs.readdirSync(this.#folder()).map((file) => path.basename(file, '.jsonl'))
    return names.filter((name) => NAME.test(name)).map((name) => this.#conversation(name).summary())
  }
}
