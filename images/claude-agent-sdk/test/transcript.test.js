import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { getSessionMessages } from '@anthropic-ai/claude-agent-sdk'
import * as transcript from '../src/transcript.js'
import { folder } from './support.js'

const user = (text, ...parts) => ({ info: { role: 'user', time: { created: 1 } }, parts: [{ type: 'text', text }, ...parts] })

test('the SDK reads what was written for it', async (t) => {
  const home = folder(t)
  process.env.CLAUDE_CONFIG_DIR = path.join(home, 'claude')
  const [workspace, projects] = [path.join(home, 'work_space'), transcript.projects(home, process.env)]
  fs.mkdirSync(workspace)
  const session = '11111111-2222-4333-8444-555555555555'
  assert.equal(transcript.exists(projects, session), false)
  const messages = [
    user('look', { type: 'file', mime: 'image/png', url: 'data:image/png;base64,AAAA' }, { type: 'file', url: 'x', filename: 'notes.txt' }),
    {
      info: { role: 'assistant', modelID: 'm', time: { created: 2 } },
      parts: [
        { type: 'reasoning', text: 'hm' },
        { type: 'text', text: '' },
        { type: 'text', text: 'I run it' },
        { type: 'tool', callID: 'tu1', tool: 'Bash', state: { status: 'completed', input: { command: 'ls' }, output: 'a' } },
        { type: 'tool', callID: 'tu2', tool: 'Bash', state: { status: 'running', input: {} } },
      ],
    },
  ]
  transcript.write(projects, { session, workspace, messages })
  assert.equal(transcript.exists(projects, session), true)
  const told = (await getSessionMessages(session, { dir: workspace })).map(({ message }) => [message.role, message.content])
  assert.deepEqual(told, [
    ['user', [
      { type: 'text', text: 'look' },
      { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'AAAA' } },
      { type: 'text', text: '[notes.txt]' },
    ]],
    ['assistant', [{ type: 'text', text: 'I run it' }]],
    ['assistant', [{ type: 'tool_use', id: 'tu1', name: 'Bash', input: { command: 'ls' } }]],
    ['user', [{ type: 'tool_result', tool_use_id: 'tu1', content: 'a', is_error: false }]],
    ['assistant', [{ type: 'tool_use', id: 'tu2', name: 'Bash', input: {} }]],
    ['user', [{ type: 'tool_result', tool_use_id: 'tu2', content: 'Tool execution was interrupted', is_error: true }]],
  ])
})
