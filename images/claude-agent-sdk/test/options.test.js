import assert from 'node:assert/strict'
import { test } from 'node:test'
import { options } from '../src/options.js'
import { agent } from './support.js'

test('the agent’s binding becomes the SDK’s options', () => {
  const bound = {
    ...agent('/w'),
    mcp_servers: [
      { name: 'far', type: 'http', url: 'http://x/mcp', headers: [{ name: 'Authorization', value: 'Bearer y' }] },
      { name: 'near', type: 'stdio', command: ['server', '--flag'], env: [{ name: 'A', value: 'b' }] },
    ],
  }
  const env = { PATH: '/bin', ANTHROPIC_BASE_URL: 'http://elsewhere' }
  const given = options({ agent: bound, env, session: { resume: 's' }, system: 'Be brief.' })
  assert.deepEqual([given.resume, given.cwd, given.model, given.systemPrompt.append], ['s', '/w', 'm', 'Be careful.\n\nBe brief.'])
  assert.deepEqual([given.env.PATH, given.env.ANTHROPIC_BASE_URL, given.env.ANTHROPIC_AUTH_TOKEN], ['/bin', 'http://127.0.0.1:1', 'secret'])
  assert.deepEqual(given.mcpServers, {
    far: { type: 'http', url: 'http://x/mcp', headers: { Authorization: 'Bearer y' } },
    near: { type: 'stdio', command: 'server', args: ['--flag'], env: { A: 'b' } },
  })
})
