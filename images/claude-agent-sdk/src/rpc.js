// What the runner and this program say to each other: JSON-RPC 2.0, one message a line, the runner's on standard input and
// ours on standard output. The runner's side is crates/runner/src/harness/claude_sdk/mod.rs.
//
// Requests of the runner, which may overlap, with the members of their params and their result:
//   warm         {workspace}                                    null; starts the SDK's program once and ends it
//   bind         {workspace, model, prompt, base_url, token, shell_env, mcp_servers}
//                                                               null; holds for all turns from now on. `shell_env` is a file whose
//                                                               text goes before each of the agent's shell commands
//   open         {title}                                        {conversation}
//   knows        {conversation}                                 true or false
//   turn         {conversation, message, parts, system}         the reply, {info, parts}
//   abort        {conversation}                                 null; the turn that runs, if any, ends soon
//   works        {}                                             true while a turn runs
//   messages     {conversation}                                 [{info, parts}, ...], all
//   messages_of  {conversation, message}                        the same of one turn: the user's message and the reply
//   restore      {conversation, messages}                       null; for a conversation in which nothing was said yet
//   sessions     {}                                             [{id, title, time, ...}, ...], all conversations
// Errors: NOT_THERE where there is no such conversation, else JSON-RPC's own.
//
// Notifications of ours:
//   ready        once, when requests are read
//   event        {type, properties}, as opencode tells them; a conversation rests with its session.idle

import { createInterface } from 'node:readline'

export const METHOD_NOT_FOUND = -32601
export const INTERNAL_ERROR = -32603
export const NOT_THERE = -32001

/** The longest line that the runner takes, in bytes. A conversation with many images is large. */
const LONGEST = 64 * 2 ** 20

/** An error with a code of the protocol. */
export class RpcError extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

/** One end of the protocol. */
export class Peer {
  #input
  #output

  constructor(input, output) {
    this.#input = input
    this.#output = output
  }

  notify(method, params) {
    this.#write({ method, params })
  }

  /** Answers requests with `methods` until the input ends. */
  async serve(methods) {
    for await (const line of createInterface({ input: this.#input, crlfDelay: Infinity })) {
      if (line.trim() !== '') this.#take(line, methods)
    }
  }

  async #take(line, methods) {
    let request
    try {
      request = JSON.parse(line)
    } catch {
      // The runner writes whole lines of JSON; whose request it was cannot be known.
      console.error('a line of the runner is not JSON')
      return
    }
    const { id, method, params } = request
    try {
      const known = Object.hasOwn(methods, method) ? methods[method] : undefined
      if (!known) throw new RpcError(METHOD_NOT_FOUND, `there is no method ${method}`)
      this.#write({ id, result: (await known(params ?? {})) ?? null })
    } catch (error) {
      const code = error instanceof RpcError ? error.code : INTERNAL_ERROR
      if (code === INTERNAL_ERROR) console.error(error)
      this.#write({ id, error: { code, message: String(error?.message ?? error) } })
    }
  }

  #write(message) {
    const line = `${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`
    if (Buffer.byteLength(line) <= LONGEST) this.#output.write(line)
    else if (message.id !== undefined) {
      this.#write({ id: message.id, error: { code: INTERNAL_ERROR, message: 'the answer is larger than the runner takes' } })
    }
  }
}
