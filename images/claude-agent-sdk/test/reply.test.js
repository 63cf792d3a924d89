import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Reply } from '../src/reply.js'
import { assistant, result, toolResult } from './support.js'

function reply(...said) {
  const [records, events] = [[], []]
  const ledger = { append: (more) => records.push(...structuredClone(more)) }
  const user = { id: 'msg_1', sessionID: 'ses_1' }
  const taken = new Reply({ user, model: 'm', cwd: '/w', ledger, tell: (event) => events.push(structuredClone(event)), now: () => 7 })
  taken.begin()
  said.forEach((message) => taken.take(message))
  return { taken, records, events }
}

const event = (event) => ({ type: 'stream_event', parent_tool_use_id: null, event })

test('text, reasoning and tools are parts of one message, in order', () => {
  const { taken, records } = reply(
    assistant('m1', { type: 'thinking', thinking: 'hm' }),
    assistant('m1', { type: 'tool_use', id: 'tu', name: 'Bash', input: { command: 'ls' } }),
    toolResult('tu', [{ type: 'text', text: 'a' }, { type: 'image' }]),
    assistant('m2', { type: 'text', text: 'done' }),
    result({ usage: { input_tokens: 3, output_tokens: 2 } }),
  )
  const { info, parts } = taken.end()
  assert.deepEqual(parts.map(({ type, text }) => [type, text]), [['reasoning', 'hm'], ['tool', undefined], ['text', 'done']])
  const { tool, callID, state } = parts[1]
  assert.deepEqual([tool, callID, state.status, state.output, state.title], ['Bash', 'tu', 'completed', 'a\n[image]', 'ls'])
  assert.deepEqual([info.id, info.parentID, info.finish, info.time.completed], ['msg_1_reply', 'msg_1', 'stop', 7])
  assert.deepEqual([info.tokens.input, info.tokens.output, info.error], [3, 2, undefined])
  assert.ok(parts.every(({ id }, i) => id > (parts[i - 1]?.id ?? '')), 'ids sort')
  assert.equal(records.filter(({ part }) => part?.type === 'tool').length, 2, 'running and completed')
  assert.ok(records.at(-1).info.time.completed)
})

test('what streams is told as it comes, and put down once', () => {
  const { taken, records, events } = reply(
    event({ type: 'message_start', message: { id: 'm1' } }),
    event({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
    event({ type: 'content_block_delta', index: 0, delta: { text: 'on' } }),
    event({ type: 'content_block_delta', index: 0, delta: { text: 'e' } }),
    assistant('m1', { type: 'text', text: 'one' }),
    result(),
  )
  assert.deepEqual(taken.end().parts.map(({ text }) => text), ['one'])
  assert.deepEqual(events.map(({ type }) => type), [
    'message.updated', 'message.part.updated', 'message.part.delta', 'message.part.delta', 'message.part.updated', 'message.updated',
  ])
  assert.deepEqual(events[2].properties, { sessionID: 'ses_1', messageID: 'msg_1_reply', partID: taken.parts[0].id, field: 'text', delta: 'on' })
  assert.deepEqual(records.filter(({ part }) => part).map(({ part }) => part.text), ['', 'one'])
})

test('what helpers of the agent say stays in the tool that ran them', () => {
  const inner = { ...assistant('m9', { type: 'text', text: 'inner' }), parent_tool_use_id: 'tu' }
  assert.deepEqual(reply(inner, result()).taken.end().parts, [])
})

test('a failed tool is an error of its part only', () => {
  const { info, parts } = reply(
    assistant('m1', { type: 'tool_use', id: 'tu', name: 'Bash', input: {} }),
    toolResult('tu', 'exit 1', true),
    result(),
  ).taken.end()
  assert.deepEqual([parts[0].state.status, parts[0].state.error, info.error], ['error', 'exit 1', undefined])
})

test('a model’s error is an error of the message and no text of it', () => {
  const said = { ...assistant('x', { type: 'text', text: 'API Error: 400 bad' }), error: 'invalid_request' }
  const failed = result({ is_error: true, result: 'API Error: 400 bad', api_error_status: 400 })
  const { info, parts } = reply(said, failed).taken.end({ failure: new Error('an error result') })
  assert.deepEqual(parts, [])
  assert.deepEqual(info.error, {
    name: 'APIError',
    data: { message: 'API Error: 400 bad', isRetryable: false, kind: 'invalid_request', statusCode: 400 },
  })
})

test('an abort ends what runs, and does not undo what is complete', () => {
  const call = assistant('m1', { type: 'tool_use', id: 'tu', name: 'Bash', input: {} })
  const cut = reply(call, result({ is_error: true, errors: ['x'] })).taken.end({ wasAborted: true, failure: new Error('x') })
  assert.deepEqual([cut.info.error.name, cut.parts[0].state.status], ['MessageAbortedError', 'error'])
  assert.equal(reply(result()).taken.end({ wasAborted: true }).info.error, undefined)
})

test('an SDK that breaks down is an error', () => {
  const { info } = reply().taken.end({ failure: new Error('exited with code 137') })
  assert.deepEqual(info.error, { name: 'UnknownError', data: { message: 'exited with code 137' } })
})
