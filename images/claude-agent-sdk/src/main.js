#!/usr/bin/env node
// The program that Paddock's runner starts in a pod with this harness. See rpc.js for what is spoken.

// Standard output belongs to the protocol; a library that prints must not break a line of it.
console.log = console.info = console.debug = console.error

import { homedir } from 'node:os'
import * as sdk from '@anthropic-ai/claude-agent-sdk'
import { Harness } from './harness.js'
import { Peer } from './rpc.js'

const peer = new Peer(process.stdin, process.stdout)
const harness = new Harness({
  sdk,
  home: homedir(),
  env: process.env,
  tell: (event) => peer.notify('event', event),
})
// The runner is gone when its end of the pipe closes: then nobody waits for what still runs.
peer.serve(harness.methods()).then(() => process.exit(0))
peer.notify('ready', {})
