// What a query of the SDK is given.

/** Tools that need a person to answer, or a process that lives on after the turn. */
const UNFIT = ['AskUserQuestion', 'CronCreate', 'CronDelete', 'CronList', 'Monitor', 'ScheduleWakeup']

/** The environment of the SDK's program. The agent's own variables reach its shells by way of `shell_env`, and so cannot change it. */
export function environment(env, { base_url, token, shell_env }) {
  return {
    ...env,
    ANTHROPIC_BASE_URL: base_url,
    ANTHROPIC_AUTH_TOKEN: token,
    CLAUDE_ENV_FILE: shell_env,
    SHELL: '/bin/bash',
    // Nothing but the model's endpoint is spoken to.
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    DISABLE_AUTOUPDATER: '1',
    // The endpoint may lead to any provider, and most know nothing of Anthropic's experiments.
    CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS: '1',
    // Some seconds of waiting, so that the model gateway can restart; the default is minutes.
    CLAUDE_CODE_MAX_RETRIES: '4',
    // How long a turn may take is the agent's to say; the runner ends it then.
    API_TIMEOUT_MS: '86400000',
    // A turn's program ends with the turn, and what it left in the background with it.
    CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: '1',
    // Lets the program work without questions where the image's user is root.
    IS_SANDBOX: '1',
  }
}

/** The options of a query. `session` is {sessionId} for a new one of the SDK's sessions, {resume} to go on with one. */
export function options({ agent, env, session, system, abortController }) {
  const append = [agent.prompt, system].filter(Boolean).join('\n\n')
  return {
    abortController,
    ...session,
    cwd: agent.workspace,
    env: environment(env, agent),
    model: agent.model,
    // Without a snapshot an agent's new prompt holds in conversations that have begun.
    systemPrompt: { type: 'preset', preset: 'claude_code', append, snapshot: false },
    // The repository's CLAUDE.md and skills, and those of the home.
    settingSources: ['user', 'project'],
    // The pod is the sandbox: what it must not reach, the network policy and the pod's own rights forbid. Nobody is there to
    // answer a question, so whatever a repository's settings would ask about is denied.
    permissionMode: 'bypassPermissions',
    allowDangerouslySkipPermissions: true,
    permissionPrompts: 'none',
    disallowedTools: [...UNFIT, ...(agent.denied_tools ?? [])],
    mcpServers: Object.fromEntries(agent.mcp_servers.map((server) => [server.name, mcpServer(server)])),
    // Their headers and environment may be secrets: not on a command line.
    mcpServersDelivery: 'initialize',
    includePartialMessages: true,
    stderr: (text) => console.error(text.trimEnd()),
  }
}

function mcpServer(server) {
  const record = (list) => Object.fromEntries((list ?? []).map(({ name, value }) => [name, value]))
  if (server.type === 'http') return { type: 'http', url: server.url, headers: record(server.headers) }
  const [command, ...args] = server.command
  return { type: 'stdio', command, args, env: record(server.env) }
}
