package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// wholeNode is the component name that stands for a node with all in it.
const wholeNode = "node"

// target is what a component command works on.
type target struct {
	cluster   *cluster
	component string
	node      int // 0 for the control plane's
	unlock    func()
}

func parseTarget(command, about string, args []string) (*target, error) {
	flags := newFlags("component "+command, "--name NAME --component COMPONENT [--node N]", about)
	name := flags.String("name", "dev", "the cluster's name")
	component := flags.String("component", "", "one of "+strings.Join(componentNames(), ", "))
	node := flags.Int("node", 1, "which node, for a node's components")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if err := noArguments(flags); err != nil {
		return nil, err
	}
	if err := needRoot(); err != nil {
		return nil, err
	}
	if !slices.Contains(componentNames(), *component) {
		return nil, fmt.Errorf("--component %q: one of %s", *component, strings.Join(componentNames(), ", "))
	}
	unlock, err := lockCluster(*name)
	if err != nil {
		return nil, err
	}
	c, err := loadCluster(*name)
	if err != nil {
		unlock()
		return nil, err
	}
	t := &target{cluster: c, component: *component, unlock: unlock}
	if *component == wholeNode || slices.Contains(nodeComponents, *component) {
		t.node = *node
		if !slices.Contains(c.nodes(), *node) {
			unlock()
			return nil, fmt.Errorf("--node %d: cluster %s has no such node", *node, c.Name)
		}
	}
	return t, nil
}

func componentNames() []string {
	names := append([]string{wholeNode}, controlPlane...)
	return append(append(names, provisioner), nodeComponents...)
}

// recorded is the name under which the component's process is recorded.
func (t *target) recorded() string {
	switch {
	case t.component == wholeNode:
		return nodeInit(t.node)
	case t.node > 0:
		return nodeComponent(t.node, t.component)
	}
	return t.component
}

func runComponentKill(args []string) error {
	t, err := parseTarget("kill", `Ends one component with SIGKILL, or ("node") a whole node like a power cut, and
waits until it is gone.`, args)
	if err != nil {
		return err
	}
	defer t.unlock()
	s := newSteps()
	if t.component == wholeNode {
		err = t.cluster.stopNode(t.node)
	} else {
		err = t.kill()
	}
	if err != nil {
		return err
	}
	s.done("%s of %s killed", t.recorded(), t.cluster.Name)
	return nil
}

func (t *target) kill() error {
	p, err := loadProcess(t.cluster.recordFile(t.recorded()))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s of %s was never started", t.recorded(), t.cluster.Name)
	}
	if err != nil {
		return err
	}
	return p.kill()
}

func runComponentStart(args []string) error {
	t, err := parseTarget("start", `Starts a killed component as it was started before, or ("node") a whole node with
the disk it had. Waits until the process runs; for the API server and a node,
until it answers.`, args)
	if err != nil {
		return err
	}
	defer t.unlock()
	s := newSteps()
	if err := t.cluster.running(t.recorded()); err == nil {
		s.done("%s of %s already runs", t.recorded(), t.cluster.Name)
		return nil
	} else if !errors.Is(err, errGone) {
		return err
	}
	if err := t.start(s); err != nil {
		return err
	}
	s.done("%s of %s started", t.recorded(), t.cluster.Name)
	return nil
}

func (t *target) start(s *steps) error {
	c := t.cluster
	if t.component == wholeNode {
		repo, err := repoDir()
		if err != nil {
			return err
		}
		tools, err := ensureTools(repo, s)
		if err != nil {
			return err
		}
		// If it ended by itself, its link and control group are still there.
		if err := c.stopNode(t.node); err != nil {
			return err
		}
		api := &gate{done: make(chan struct{})}
		api.open(nil)
		return c.startNode(t.node, tools, api, s)
	}
	if t.node > 0 {
		return c.startInNode(t.node, t.component)
	}
	var argv []string
	if err := readJSON(c.argvFile(t.component), &argv); err != nil {
		return fmt.Errorf("%s of %s was never started: %w", t.component, c.Name, err)
	}
	if err := c.startComponent(t.component, argv); err != nil {
		return err
	}
	if t.component != "kube-apiserver" {
		return nil
	}
	a, err := c.newAPI()
	if err != nil {
		return err
	}
	return c.waitForAPI(a)
}
