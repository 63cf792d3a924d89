package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// Databases, containerd and dpkg wait for the disk after every step, so that a
// power cut loses nothing. Here a power cut ends the test anyway, and the wait
// is for everything that the whole machine has to write: seconds, when
// something is compiled beside it. So the processes of clusters and of image
// builds run under a filter that answers "done" to each such call.
//
// A filter is passed on to children: containers of a cluster have it too.

// noSyncCommand runs a program to its end under the filter.
const noSyncCommand = "nosync"

func runNoSync(args []string) error {
	withoutSync()
	return fmt.Errorf("run %s: %w", args[0], syscall.Exec(args[0], args, os.Environ()))
}

// Constants of linux/seccomp.h, linux/prctl.h and linux/bpf_common.h.
const (
	prSetSeccomp      = 22
	seccompModeFilter = 2
	seccompRetAllow   = 0x7fff0000
	seccompRetErrno   = 0x00050000 // plus the error number: 0 is success

	bpfLoadWord  = 0x20 // BPF_LD | BPF_W | BPF_ABS
	bpfJumpEqual = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	bpfReturn    = 0x06 // BPF_RET | BPF_K
	offsetOfNr   = 0    // in struct seccomp_data
	offsetOfArch = 4
	auditArchX64 = 0xc000003e
	auditArchArm = 0xc00000b7
)

// withoutSync puts the filter on this thread, which must go on to exec. A
// machine that doesn't let us is only slower.
func withoutSync() {
	runtime.LockOSThread()
	arch := map[string]uint32{"amd64": auditArchX64, "arm64": auditArchArm}[runtime.GOARCH]
	calls := []uint32{syscall.SYS_FSYNC, syscall.SYS_FDATASYNC, syscall.SYS_SYNC, sysSyncfs}
	filter := []syscall.SockFilter{
		{Code: bpfLoadWord, K: offsetOfArch},
		// Another architecture's calls have other numbers: past all tests.
		{Code: bpfJumpEqual, K: arch, Jt: 0, Jf: uint8(len(calls) + 1)},
		{Code: bpfLoadWord, K: offsetOfNr},
	}
	for i, call := range calls {
		filter = append(filter, syscall.SockFilter{Code: bpfJumpEqual, K: call, Jt: uint8(len(calls) - i), Jf: 0})
	}
	filter = append(filter,
		syscall.SockFilter{Code: bpfReturn, K: seccompRetAllow},
		syscall.SockFilter{Code: bpfReturn, K: seccompRetErrno},
	)
	program := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetSeccomp, seccompModeFilter, uintptr(unsafe.Pointer(&program)))
}
