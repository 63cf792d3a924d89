package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func runDown(args []string) error {
	flags := newFlags("down", "--name NAME | --all", `Removes a cluster: processes, mounts, links, routes, rules, control groups and
its folder. Works after a crash, and when there is nothing to remove.`)
	name := flags.String("name", "dev", "the cluster's name")
	all := flags.Bool("all", false, "remove every cluster of this cache")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := noArguments(flags); err != nil {
		return err
	}
	if err := needRoot(); err != nil {
		return err
	}
	names := []string{*name}
	if *all {
		var err error
		if names, err = clusterNames(); err != nil {
			return err
		}
	}
	s := newSteps()
	for _, name := range names {
		if err := removeCluster(name, s); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return nil
}

func removeCluster(name string, s *steps) error {
	if _, err := clusterDir(name); err != nil {
		return err
	}
	unlock, err := lockCluster(name)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := loadCluster(name)
	if errors.Is(err, errNoCluster) {
		s.done("no cluster %s", name)
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.remove(); err != nil {
		return err
	}
	s.done("%s removed", name)
	return nil
}

// remove takes away everything; the record goes last, so that a removal that
// was cut short can be repeated.
func (c *cluster) remove() error {
	// Nodes first, each at one stroke.
	for _, n := range c.nodes() {
		if err := c.stopNode(n); err != nil {
			return err
		}
	}
	records, err := filepath.Glob(c.recordFile("*"))
	if err != nil {
		return err
	}
	for _, file := range records {
		p, err := loadProcess(file)
		if err == nil {
			err = p.kill()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	if err := c.removeNetwork(); err != nil {
		return err
	}
	// The record is moved out of sight only when all the rest is gone.
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	err = waitFor("the removal of "+c.dir, 15*time.Second, func() error {
		var errs []error
		for _, entry := range entries {
			if entry.Name() != "cluster.json" {
				errs = append(errs, os.RemoveAll(c.path(entry.Name())))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(c.dir)
}
