import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { Ledger } from '../src/ledger.js'
import { folder } from './support.js'

test('the last word about a message and a part holds', (t) => {
  const dir = folder(t)
  const ledger = new Ledger(dir, 'c')
  assert.deepEqual([ledger.exists(), ledger.read().messages], [false, []])
  ledger.append([{ opened: { title: 't', at: 1 } }, { info: { id: 'a', n: 1 } }])
  ledger.append([{ part: { id: 'p', messageID: 'a', text: '' } }, { part: { id: 'q', messageID: 'a' } }])
  ledger.append([{ part: { id: 'p', messageID: 'a', text: 'x' } }, { info: { id: 'a', n: 2 } }, { sdk: { session: 's' } }], { sync: true })
  const said = new Ledger(dir, 'c').read()
  assert.deepEqual(said.messages, [
    { info: { id: 'a', n: 2 }, parts: [{ id: 'p', messageID: 'a', text: 'x' }, { id: 'q', messageID: 'a' }] },
  ])
  assert.deepEqual([said.opened.title, said.sdk.session], ['t', 's'])
})

test('half a line that a crash left spoils nothing', (t) => {
  const dir = folder(t)
  new Ledger(dir, 'c').append([{ info: { id: 'a' } }])
  fs.appendFileSync(path.join(dir, 'c.jsonl'), '{"info":{"id":"b"')
  const ledger = new Ledger(dir, 'c')
  ledger.append([{ info: { id: 'c' } }])
  assert.deepEqual(ledger.read().messages.map(({ info }) => info.id), ['a', 'c'])
})
