package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Every kubelet gets a control group of its own, so that two of them never
// take each other's pods for their own leftovers.

const cgroupRoot = "/sys/fs/cgroup"

func (c *cluster) nodeCgroup(n int) string {
	return fmt.Sprintf("/devcluster-%s-node%d", c.Name, n)
}

// cgroupTrees are the hierarchies of version 1, or the one of version 2.
func cgroupTrees() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return []string{cgroupRoot}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, err
	}
	var trees []string
	for _, entry := range entries {
		// Links (cpu → cpu,cpuacct) name a tree a second time.
		if entry.IsDir() && entry.Name() != "unified" {
			trees = append(trees, filepath.Join(cgroupRoot, entry.Name()))
		}
	}
	return trees, nil
}

func (c *cluster) makeCgroup(n int) error {
	trees, err := cgroupTrees()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		if err := os.MkdirAll(filepath.Join(tree, c.nodeCgroup(n)), 0o755); err != nil {
			return err
		}
	}
	// A cpuset of version 1 starts empty, and no process can join it so.
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(cgroupRoot, "cpuset", file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(cgroupRoot, "cpuset", c.nodeCgroup(n), file), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroup also ends what still runs in the groups. After the node's first
// process was killed nothing does, but a group may say so a moment later.
func (c *cluster) removeCgroup(n int) error {
	trees, err := cgroupTrees()
	if err != nil {
		return err
	}
	return waitFor("the end of control group "+c.nodeCgroup(n), 15*time.Second, func() error {
		var errs []error
		for _, tree := range trees {
			errs = append(errs, removeGroups(filepath.Join(tree, c.nodeCgroup(n))))
		}
		return errors.Join(errs...)
	})
}

func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeGroups(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	// The group is this node's alone, so whoever is in it belongs to the node.
	if pids, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err == nil {
		for _, word := range strings.Fields(string(pids)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && err != syscall.ENOENT {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
