// A conversation's file: what was said, a JSON line for each message's info and each part as they become known. The last line
// about a message or part, or about where the SDK is, holds. It is written before the SDK sees a turn and before its reply is given out, so a restart finds
// every reply that was complete, and tells one that was cut off by its missing `time.completed`.
//
// The SDK's own transcript cannot do that: it does not know which message of ours an entry belongs to.

import fs from 'node:fs'
import path from 'node:path'

/** One conversation's file. */
export class Ledger {
  #path
  #file

  constructor(folder, conversation) {
    this.#path = path.join(folder, `${conversation}.jsonl`)
  }

  exists() {
    return fs.existsSync(this.#path)
  }

  /** Writes records; with `sync` they are on the disk when it returns. */
  append(records, { sync = false } = {}) {
    this.#file ??= this.#open()
    fs.appendFileSync(this.#file, records.map((record) => `${JSON.stringify(record)}\n`).join(''))
    if (sync) fs.fsyncSync(this.#file)
  }

  /** All that is in the file. */
  read() {
    const said = { opened: {}, sdk: undefined, messages: [] }
    const byId = new Map()
    for (const record of this.#records()) {
      if (record.opened) said.opened = record.opened
      if (record.sdk) said.sdk = record.sdk
      if (record.info) {
        const known = byId.get(record.info.id)
        if (known) known.info = record.info
        else {
          const message = { info: record.info, parts: [] }
          byId.set(record.info.id, message)
          said.messages.push(message)
        }
      }
      const message = record.part && byId.get(record.part.messageID)
      if (message) put(message.parts, record.part)
    }
    return said
  }

  #open() {
    fs.mkdirSync(path.dirname(this.#path), { recursive: true, mode: 0o700 })
    const file = fs.openSync(this.#path, 'a+', 0o600)
    // What a crash left of a line must not spoil the next one.
    const size = fs.fstatSync(file).size
    const last = Buffer.alloc(1)
    if (size > 0 && fs.readSync(file, last, 0, 1, size - 1) === 1 && last[0] !== 0x0a) fs.appendFileSync(file, '\n')
    if (size === 0) syncFolder(path.dirname(this.#path))
    return file
  }

  #records() {
    if (!this.exists()) return []
    return fs.readFileSync(this.#path, 'utf8').split('\n').flatMap((line) => {
      if (line === '') return []
      try {
        return [JSON.parse(line)]
      } catch {
        // Only a crash leaves half a line, and what it held was not yet told to anybody.
        return []
      }
    })
  }
}

/** Puts a part in the place of its earlier state, or at the end. */
export function put(parts, part) {
  const known = parts.findIndex(({ id }) => id === part.id)
  if (known < 0) parts.push(part)
  else parts[known] = part
}

/** Without this a new file can be lost with the power, whatever was synced into it. */
function syncFolder(folder) {
  const file = fs.openSync(folder, 'r')
  fs.fsyncSync(file)
  fs.closeSync(file)
}
