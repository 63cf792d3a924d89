import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { Harness } from '../src/harness.js'
import { agent, assistant, fakeSdk, folder, result } from './support.js'

const text = (text) => [{ type: 'text', text, id: 'prt_1' }]

function start(home, said) {
  const [sdk, events] = [fakeSdk(said), []]
  const methods = new Harness({ sdk, home, env: {}, tell: (event) => events.push(event) }).methods()
  methods.bind(agent(home))
  return { methods, events, queries: sdk.queries }
}

async function* answers() {
  yield assistant('m1', { type: 'text', text: 'hello' })
  yield result()
}

test('a turn is found again after a restart, by the name of its message', async (t) => {
  const home = folder(t)
  const { methods, events, queries } = start(home, answers)
  const { conversation } = methods.open({ title: 'A title' })
  const reply = await methods.turn({ conversation, message: 'msg_1', parts: text('hi') })
  assert.equal(reply.parts[0].text, 'hello')
  assert.equal(queries[0].options.sessionId, conversation.slice(4))
  assert.deepEqual(events.at(-1), { type: 'session.idle', properties: { sessionID: conversation } })

  const { methods: again } = start(home, answers)
  assert.equal(again.knows({ conversation }), true)
  const told = again.messages_of({ conversation, message: 'msg_1' })
  assert.deepEqual(told.map(({ info }) => info.id), ['msg_1', 'msg_1_reply'])
  assert.deepEqual(told[1], JSON.parse(JSON.stringify(reply)))
  assert.deepEqual(again.sessions().map(({ id, title }) => [id, title]), [[conversation, 'A title']])
})

test('the user’s message is on the disk before the SDK sees it, and a cut turn has no end', async (t) => {
  const home = folder(t)
  let seen
  const { methods } = start(home, async function* () {
    yield assistant('m1', { type: 'text', text: 'half' })
    seen = start(home, answers).methods.messages({ conversation })
    yield result()
  })
  const { conversation } = methods.open({ title: 't' })
  const turn = methods.turn({ conversation, message: 'msg_1', parts: text('hi') })
  await turn
  assert.deepEqual(seen.map(({ info, parts }) => [info.id, parts[0].text, info.time.completed]), [
    ['msg_1', 'hi', undefined],
    ['msg_1_reply', 'half', undefined],
  ])
})

test('an abort ends the turn with its error', async (t) => {
  const { methods } = start(folder(t), async function* ({ interrupted }) {
    await interrupted
    yield result({ is_error: true, subtype: 'error_during_execution', errors: ['interrupted'] })
  })
  const { conversation } = methods.open({ title: 't' })
  const turn = methods.turn({ conversation, message: 'msg_1', parts: text('hi') })
  assert.equal(methods.works(), true)
  await methods.abort({ conversation })
  assert.equal((await turn).info.error.name, 'MessageAbortedError')
  assert.equal(methods.works(), false)
  await methods.abort({ conversation })
})

test('an earlier pod’s conversation is told, and the SDK goes on with it', async (t) => {
  const home = folder(t)
  const { methods, queries } = start(home, answers)
  const { conversation } = methods.open({ title: 't' })
  const messages = [
    { info: { id: 'msg_0', role: 'user', sessionID: 'ses_old', time: { created: 1 } }, parts: [{ id: 'p', type: 'text', text: 'earlier' }] },
    { info: { id: 'msg_0_reply', role: 'assistant', time: { created: 2 } }, parts: [{ id: 'q', type: 'text', text: 'yes' }] },
  ]
  await methods.restore({ conversation, messages })
  await methods.restore({ conversation, messages })
  const told = methods.messages({ conversation })
  assert.deepEqual(told.map(({ info, parts }) => [info.id, info.sessionID, parts[0].text]), [
    ['msg_0', conversation, 'earlier'],
    ['msg_0_reply', conversation, 'yes'],
  ])
  await methods.turn({ conversation, message: 'msg_1', parts: text('hi') })
  assert.equal(queries[0].options.resume, conversation.slice(4))
})

test('a command may begin another session of the SDK', async (t) => {
  const home = folder(t)
  const { methods, queries } = start(home, async function* () {
    fs.mkdirSync(path.join(home, '.claude/projects/x'), { recursive: true })
    fs.writeFileSync(path.join(home, '.claude/projects/x/other.jsonl'), '')
    yield result({ session_id: 'other' })
  })
  const { conversation } = methods.open({ title: 't' })
  await methods.turn({ conversation, message: 'msg_1', parts: text('/clear') })
  await start(home, answers).methods.turn({ conversation, message: 'msg_2', parts: text('hi') })
  await methods.turn({ conversation, message: 'msg_3', parts: text('hi') })
  assert.equal(queries[1].options.resume, 'other')
})

test('what the model’s API refused is not sent again', async (t) => {
  const home = folder(t)
  let refuses = false
  const said = async function* () {
    if (refuses) yield result({ is_error: true, result: 'API Error: 400 bad image', api_error_status: 400 })
    else yield* answers()
  }
  const { methods, queries } = start(home, said)
  const { conversation } = methods.open({ title: 't' })
  const sessions = () => queries.map(({ options }) => options.resume ?? options.sessionId)
  await methods.turn({ conversation, message: 'msg_1', parts: text('good') })
  refuses = true
  await methods.turn({ conversation, message: 'msg_2', parts: text('bad') })
  refuses = false
  const { methods: again, queries: later } = start(home, said)
  await again.turn({ conversation, message: 'msg_3', parts: text('better') })
  assert.equal(new Set(sessions()).size, 1)
  const { resume } = later[0].options
  assert.ok(resume && !sessions().includes(resume), 'a session of its own')
  const projects = path.join(home, '.claude/projects')
  const written = fs.readFileSync(path.join(projects, fs.readdirSync(projects)[0], `${resume}.jsonl`), 'utf8')
  assert.ok(written.includes('good') && !written.includes('bad'), written)
  assert.equal(again.messages({ conversation }).length, 6, 'people still see it')
  await again.turn({ conversation, message: 'msg_4', parts: text('on') })
  assert.equal(later[1].options.resume, resume)
})

test('names of conversations are no paths', (t) => {
  const { methods } = start(folder(t), answers)
  for (const conversation of ['ses_x', '../x', 'ses_../../../../../etc/passwd-aaaaaaaaaaaaaa', `ses_${'0'.repeat(36)}`]) {
    assert.equal(methods.knows({ conversation }), false)
    assert.throws(() => methods.messages({ conversation }), /no conversation/)
  }
})
