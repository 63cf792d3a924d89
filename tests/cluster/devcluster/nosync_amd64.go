package main

// The syscall package's list is older than this call.
const sysSyncfs = 306
