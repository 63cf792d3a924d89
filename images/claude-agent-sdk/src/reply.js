// Takes down what the SDK says in a turn as one message in opencode's form: text, reasoning, and tools with their results, in
// order. Everything goes to the ledger as it becomes known, and to whoever follows the conversation as opencode's events.

import { errorOf, aborted } from './errors.js'
import { put } from './ledger.js'

/** The reply to one user message. */
export class Reply {
  #user
  #ledger
  #tell
  #now
  #error
  #succeeded = false
  #blocks = new Map()
  #tools = new Map()
  #seen = new Map()
  #streaming

  constructor({ user, model, cwd, ledger, tell, now = Date.now }) {
    this.#user = user
    this.#ledger = ledger
    this.#tell = tell
    this.#now = now
    this.parts = []
    this.info = {
      // Sorts after the message that it answers and before the next one.
      id: `${user.id}_reply`,
      sessionID: user.sessionID,
      role: 'assistant',
      parentID: user.id,
      time: { created: now() },
      providerID: 'paddock',
      modelID: model,
      mode: 'build',
      path: { cwd, root: cwd },
      cost: 0,
      tokens: { input: 0, output: 0, reasoning: 0, cache: { read: 0, write: 0 } },
    }
  }

  begin() {
    this.#inform()
  }

  /** Takes one message of the SDK. */
  take(message) {
    // What helpers of the agent say is in the output of the tool that ran them.
    if (message.parent_tool_use_id) return
    if (message.type === 'stream_event') this.#stream(message.event)
    else if (message.type === 'assistant') this.#assistant(message)
    else if (message.type === 'user') this.#results(message)
    else if (message.type === 'result') this.#result(message)
  }

  /** The message as it is now. */
  message() {
    return { info: this.info, parts: this.parts }
  }

  /** Ends the turn. `failure` is what the SDK threw, if it did. */
  end({ wasAborted = false, failure } = {}) {
    for (const part of this.#tools.values()) this.#close(part, 'error', { error: 'Tool execution was interrupted' })
    // What was complete when it was to be interrupted is complete.
    if (wasAborted && !this.#succeeded) this.#error = aborted()
    else if (failure && !this.#succeeded) this.#error ??= errorOf({ text: failure.message })
    this.info = { ...this.info, finish: this.#error ? 'error' : 'stop', time: { ...this.info.time, completed: this.#now() } }
    if (this.#error) this.info.error = this.#error
    this.#inform({ sync: true })
    return this.message()
  }

  #stream(event) {
    if (event.type === 'message_start') this.#streaming = event.message.id
    const key = `${this.#streaming}:${event.index}`
    if (event.type === 'content_block_start') {
      const kind = { text: 'text', thinking: 'reasoning' }[event.content_block.type]
      if (kind) this.#blocks.set(key, this.#add({ type: kind, text: '', time: { start: this.#now() } }))
    } else if (event.type === 'content_block_delta') {
      const part = this.#blocks.get(key)
      const delta = event.delta.text ?? event.delta.thinking
      if (!part || !delta) return
      // The whole text is put down with the block's end.
      part.text += delta
      this.#tell({
        type: 'message.part.delta',
        properties: { sessionID: part.sessionID, messageID: part.messageID, partID: part.id, field: 'text', delta },
      })
    }
  }

  #assistant({ message, error }) {
    if (error) {
      const text = message.content.map((block) => block.text ?? '').join('')
      this.#error = errorOf({ kind: error, text })
      return
    }
    // The SDK tells a message block by block.
    for (const block of message.content) {
      const index = this.#seen.get(message.id) ?? 0
      this.#seen.set(message.id, index + 1)
      const streamed = this.#blocks.get(`${message.id}:${index}`)
      if (block.type === 'tool_use') this.#call(block)
      else if (block.type === 'text') this.#said(streamed, 'text', block.text)
      else if (block.type === 'thinking') this.#said(streamed, 'reasoning', block.thinking)
    }
  }

  #said(streamed, type, text) {
    const start = streamed?.time.start ?? this.#now()
    const time = { start, end: this.#now() }
    if (streamed) this.#put({ ...streamed, text, time })
    else this.#add({ type, text, time })
  }

  #call({ id, name, input }) {
    const state = { status: 'running', input, title: title(name, input), metadata: {}, time: { start: this.#now() } }
    this.#tools.set(id, this.#add({ type: 'tool', callID: id, tool: name, state }))
  }

  #results({ message }) {
    if (!Array.isArray(message.content)) return
    for (const block of message.content) {
      const part = block.type === 'tool_result' ? this.#tools.get(block.tool_use_id) : undefined
      if (!part) continue
      const output = textOf(block.content)
      this.#close(part, block.is_error ? 'error' : 'completed', block.is_error ? { error: output } : { output })
    }
  }

  #close(part, status, what) {
    this.#tools.delete(part.callID)
    const { input, title, metadata, time } = part.state
    this.#put({ ...part, state: { status, input, title, metadata, ...what, time: { ...time, end: this.#now() } } })
  }

  #result(result) {
    const { input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens } = result.usage ?? {}
    this.info.tokens = {
      input: input_tokens ?? 0,
      output: output_tokens ?? 0,
      reasoning: 0,
      cache: { read: cache_read_input_tokens ?? 0, write: cache_creation_input_tokens ?? 0 },
    }
    this.#succeeded = !result.is_error
    if (this.#succeeded) return
    const text = result.result ?? result.errors?.join('\n') ?? result.subtype
    this.#error = errorOf({ kind: this.#error?.data.kind, text, status: result.api_error_status })
  }

  #add(part) {
    const number = String(this.parts.length + 1).padStart(5, '0')
    const id = `${this.info.id.replace(/^msg_/, 'prt_')}_${number}`
    return this.#put({ id, sessionID: this.info.sessionID, messageID: this.info.id, ...part })
  }

  #put(part) {
    put(this.parts, part)
    this.#ledger.append([{ part }])
    this.#tell({ type: 'message.part.updated', properties: { sessionID: part.sessionID, part, time: this.#now() } })
    return part
  }

  #inform(options) {
    this.#ledger.append([{ info: this.info }], options)
    this.#tell({ type: 'message.updated', properties: { sessionID: this.info.sessionID, info: this.info } })
  }
}

/** A line for people. */
function title(name, input) {
  const about = input?.description ?? input?.command ?? input?.file_path ?? input?.pattern ?? input?.url
  return typeof about === 'string' ? about : name
}

/** The text of a tool's result, which is text or blocks. */
function textOf(content) {
  if (typeof content === 'string') return content
  return (content ?? []).map((block) => (block.type === 'text' ? block.text : `[${block.type}]`)).join('\n')
}
