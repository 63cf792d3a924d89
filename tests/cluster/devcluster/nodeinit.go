package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// nodeInitCommand is process 1 of a node. It lays out the node's file system
// view, tells that it is done, and then only reaps orphans. It must never do
// more: killing it is how a whole node is ended, with every process, mount,
// link and rule in it.
const nodeInitCommand = "node-init"

// nodeLayout is what node-init is told, in a file.
type nodeLayout struct {
	Hostname string            `json:"hostname"`
	Binds    map[string]string `json:"binds"` // folder seen in the node → folder of the host
	Tmpfs    []string          `json:"tmpfs"`
	Ready    string            `json:"ready"` // file written when done: "ok", or the error
}

func runNodeInit(args []string) error {
	if os.Getpid() != 1 {
		return errors.New("node-init is started by devcluster up")
	}
	if err := awaitPermission(); err != nil {
		return err
	}
	var layout nodeLayout
	if err := readJSON(args[0], &layout); err != nil {
		return err
	}
	result := "ok"
	err := layout.apply()
	if err != nil {
		result = err.Error()
	}
	if err := os.WriteFile(layout.Ready+".new", []byte(result), 0o644); err != nil {
		return err
	}
	if err := os.Rename(layout.Ready+".new", layout.Ready); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	reap()
	return nil
}

func (l nodeLayout) apply() error {
	// Nothing mounted here shows up on the host; but pods of the node must
	// see each other's mounts if they ask for it, as on any machine.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NOEXEC|syscall.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	// A version 2 tree beside version 1 confuses runtimes that look for either.
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		if err := syscall.Unmount("/sys/fs/cgroup/unified", syscall.MNT_DETACH); err != nil && err != syscall.EINVAL && err != syscall.ENOENT {
			return fmt.Errorf("unmount /sys/fs/cgroup/unified: %w", err)
		}
	}
	for _, dir := range l.Tmpfs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("mount a tmpfs on %s: %w", dir, err)
		}
	}
	for inside, outside := range l.Binds {
		for _, dir := range []string{inside, outside} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := syscall.Mount(outside, inside, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s on %s: %w", outside, inside, err)
		}
	}
	for _, dir := range []string{"/run/netns", "/run/lock"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := syscall.Sethostname([]byte(l.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	for _, setting := range []string{"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"} {
		if err := os.WriteFile(filepath.Join("/proc/sys", setting), []byte("1"), 0o644); err != nil {
			return fmt.Errorf("switch on %s (is the kernel module br_netfilter loaded?): %w", setting, err)
		}
	}
	return nil
}

// reap takes the exit status of every process that ends up as a child here.
func reap() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	for range ended {
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
