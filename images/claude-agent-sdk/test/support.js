// A home of its own for each test, and an SDK that does what a test scripts.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

/** A folder that goes away with the test. */
export function folder(t) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'paddock-sdk-'))
  t.after(() => fs.rmSync(made, { recursive: true, force: true }))
  return made
}

/** An SDK whose queries say `said`; `queries` are what they were given. */
export function fakeSdk(said) {
  const queries = []
  const query = ({ prompt, options }) => {
    const stream = (async function* () {
      const { value } = await prompt.next()
      queries.push({ options, content: value.message.content })
      yield* said({ prompt, options, interrupted })
    })()
    let interrupt
    const interrupted = new Promise((resolve) => (interrupt = resolve))
    return Object.assign(stream, { interrupt: async () => interrupt() })
  }
  return { queries, query, getSessionMessages: async () => [{}] }
}

export const assistant = (id, ...content) => ({ type: 'assistant', parent_tool_use_id: null, message: { id, content } })
export const toolResult = (id, content, is_error = false) => ({
  type: 'user',
  parent_tool_use_id: null,
  message: { role: 'user', content: [{ type: 'tool_result', tool_use_id: id, content, is_error }] },
})
export const result = (more = {}) => ({ type: 'result', subtype: 'success', is_error: false, result: '', usage: {}, ...more })

export const agent = (workspace) => ({
  workspace,
  model: 'm',
  prompt: 'Be careful.',
  base_url: 'http://127.0.0.1:1',
  token: 'secret',
  shell_env: '/state/env.sh',
  mcp_servers: [],
})
