// The SDK's own transcripts: one file a session, below ~/.claude/projects. The SDK writes them and resumes from them. Where one is
// missing, because the conversation comes from another pod or the agent has cleared its home, it is written here from what was
// said, so that the model knows it.

import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { blocks } from './prompt.js'

/** Where the SDK keeps them. */
export function projects(home, env) {
  return path.join(env.CLAUDE_CONFIG_DIR || path.join(home, '.claude'), 'projects')
}

/** Whether the SDK has a session. */
export function exists(folder, session) {
  if (!fs.existsSync(folder)) return false
  return fs.readdirSync(folder).some((project) => fs.existsSync(path.join(folder, project, `${session}.jsonl`)))
}

/** Writes a session that was not there; false where there is nothing to write. */
export function write(folder, { session, workspace, messages }) {
  if (messages.length === 0) return false
  const cwd = fs.realpathSync(workspace)
  const project = path.join(folder, cwd.replaceAll(/[^a-zA-Z0-9]/g, '-'))
  fs.mkdirSync(project, { recursive: true, mode: 0o700 })
  let parentUuid = null
  const lines = messages.flatMap(turns).map(({ message, at }) => {
    const uuid = randomUUID()
    const entry = {
      parentUuid,
      isSidechain: false,
      userType: 'external',
      cwd,
      sessionId: session,
      type: message.role,
      message,
      uuid,
      timestamp: new Date(at).toISOString(),
    }
    parentUuid = uuid
    return `${JSON.stringify(entry)}\n`
  })
  fs.writeFileSync(path.join(project, `${session}.jsonl`), lines.join(''), { mode: 0o600 })
  return true
}

/** A message as the API would have it, in one or several turns: a tool's result is the user's to say. */
function turns({ info, parts }) {
  const at = info.time?.created ?? Date.now()
  if (info.role === 'user') return [{ at, message: { role: 'user', content: blocks(parts) } }]
  // Reasoning is left out: a provider takes it back only with its own signature.
  return parts.flatMap((part) => {
    if (part.type === 'text' && part.text !== '') return [{ at, message: assistant(info, { type: 'text', text: part.text }) }]
    if (part.type !== 'tool') return []
    const { callID, tool, state } = part
    const content = state.output ?? state.error ?? 'Tool execution was interrupted'
    return [
      { at, message: assistant(info, { type: 'tool_use', id: callID, name: tool, input: state.input ?? {} }) },
      { at, message: { role: 'user', content: [{ type: 'tool_result', tool_use_id: callID, content, is_error: state.status !== 'completed' }] } },
    ]
  })
}

function assistant(info, block) {
  return {
    id: `msg_${randomUUID()}`,
    type: 'message',
    role: 'assistant',
    model: info.modelID ?? 'unknown',
    content: [block],
    stop_reason: block.type === 'tool_use' ? 'tool_use' : 'end_turn',
    stop_sequence: null,
    usage: { input_tokens: 0, output_tokens: 0 },
  }
}
