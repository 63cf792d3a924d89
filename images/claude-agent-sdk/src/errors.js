// Errors of a turn, in the form that opencode has for them in a message's info.

const RETRYABLE = ['rate_limit', 'overloaded', 'server_error']

/** What the model's side or the SDK said went wrong. `kind` is the SDK's, `status` the HTTP status where there was one. */
export function errorOf({ kind, text, status }) {
  if (kind === 'max_output_tokens') return { name: 'MessageOutputLengthError', data: { message: text, kind } }
  if (kind === undefined && status == null) return { name: 'UnknownError', data: { message: text } }
  const data = { message: text, isRetryable: status >= 500 || status === 429 || RETRYABLE.includes(kind) }
  if (kind !== undefined) data.kind = kind
  if (status != null) data.statusCode = status
  return { name: 'APIError', data }
}

/** Whether the model's API refused what it was sent. It would refuse it again, with all that is said later. */
export function isRefusal(error) {
  return error?.name === 'APIError' && [400, 413, 422].includes(error.data?.statusCode)
}

export function aborted() {
  return { name: 'MessageAbortedError', data: { message: 'The turn was aborted' } }
}
