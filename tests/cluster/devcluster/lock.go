package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock takes a machine-wide lock by name, and waits for it. The kernel lets go
// of it when the process ends, however it ends.
func lock(name string) (unlock func(), err error) {
	dir, err := cachePath("locks")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		fmt.Fprintf(os.Stderr, "        waiting for another devcluster that works on %s\n", name)
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { file.Close() }, nil
}
