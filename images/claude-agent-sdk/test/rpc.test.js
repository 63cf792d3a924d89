import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { INTERNAL_ERROR, METHOD_NOT_FOUND, NOT_THERE, Peer, RpcError } from '../src/rpc.js'

async function speak(lines, methods) {
  const [input, output] = [new PassThrough(), new PassThrough()]
  const peer = new Peer(input, output)
  const served = peer.serve(methods)
  input.end(lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'))
  await served
  await new Promise(setImmediate)
  output.end()
  const text = (await output.toArray()).join('')
  return text.split('\n').filter(Boolean).map((line) => JSON.parse(line))
}

test('requests are answered, and a slow one holds no other up', async () => {
  let finish
  const slow = new Promise((resolve) => (finish = resolve))
  const methods = { slow: () => slow, quick: ({ x }) => { finish('done'); return x + 1 }, nothing: () => {} }
  const said = await speak([{ id: 1, method: 'slow' }, { id: 2, method: 'quick', params: { x: 1 } }, { id: 3, method: 'nothing' }], methods)
  assert.deepEqual(said.map(({ id, result }) => [id, result]).sort(), [[1, 'done'], [2, 2], [3, null]])
  assert.ok(said.every(({ jsonrpc }) => jsonrpc === '2.0'))
})

test('what goes wrong is told with a code', async () => {
  const methods = {
    gone: () => { throw new RpcError(NOT_THERE, 'gone') },
    broken: async () => { throw new Error('boom') },
  }
  const asked = ['gone', 'broken', 'unknown', 'toString'].map((method, id) => ({ id, method }))
  const said = await speak(['no json', ...asked], methods)
  const codes = Object.fromEntries(said.map(({ id, error }) => [id, error.code]))
  assert.deepEqual(codes, { 0: NOT_THERE, 1: INTERNAL_ERROR, 2: METHOD_NOT_FOUND, 3: METHOD_NOT_FOUND })
})
