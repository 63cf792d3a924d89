package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

func runUp(args []string) error {
	flags := newFlags("up", "--name NAME [FLAGS]", `Boots a cluster and waits until it is usable: its API server and controllers
answer, its nodes are Ready, names resolve. A cluster that already runs is
completed (a missing or broken node is booted); one whose control plane is
damaged is removed first. Prints the path of the kubeconfig.`)
	name := flags.String("name", "dev", "the cluster's name; clusters of different names run beside each other")
	nodes := flags.Int("nodes", 1, fmt.Sprintf("nodes to have, up to %d", maxNodes))
	spareNodes := flags.Int("spare-nodes", 0, "nodes to have besides, with the taint "+spareTaint+":NoSchedule; to be killed by tests")
	controlPlaneOnly := flags.Bool("control-plane-only", false, "no nodes: pods stay Pending, everything else of the API works")
	fastNodeLoss := flags.Bool("fast-node-loss", false, "notice a lost node in 8 s and move its pods 3 s later, instead of 50 s and 5 min")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := noArguments(flags); err != nil {
		return err
	}
	if *controlPlaneOnly {
		*nodes = 0
	} else if *nodes < 1 || *nodes > maxNodes {
		return fmt.Errorf("--nodes %d: 1 to %d, or --control-plane-only", *nodes, maxNodes)
	}
	want := cluster{Name: *name, FastNodeLoss: *fastNodeLoss}
	if *spareNodes != 0 {
		if *spareNodes < 0 || *nodes == 0 || *nodes+*spareNodes > maxNodes {
			return fmt.Errorf("--spare-nodes %d: beside at least one other node, and %d in all", *spareNodes, maxNodes)
		}
		want.FirstSpare = *nodes + 1
	}
	if _, err := clusterDir(*name); err != nil {
		return err
	}
	s := newSteps()
	t, err := prepare(s)
	if err != nil {
		return err
	}
	unlock, err := lockCluster(*name)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := openCluster(want, s)
	if err != nil {
		return err
	}
	if err := c.boot(*nodes+*spareNodes, t, s); err != nil {
		return fmt.Errorf("boot %s: %w\n(logs: %s and %s; devcluster down --name %s removes it)", *name, err, c.path("logs"), c.path("nodes", "*", "log"), *name)
	}
	fmt.Println(c.kubeconfig())
	return nil
}

// openCluster finds the cluster in a state that booting can go on from: new,
// or with a control plane that works.
func openCluster(want cluster, s *steps) (*cluster, error) {
	c, err := loadCluster(want.Name)
	if err != nil && !errors.Is(err, errNoCluster) {
		return nil, err
	}
	if err == nil {
		health := c.controlPlaneHealth()
		if health == nil {
			if c.FastNodeLoss != want.FastNodeLoss || want.FirstSpare != 0 && c.FirstSpare != want.FirstSpare {
				return nil, fmt.Errorf("cluster %s runs with another --fast-node-loss or --spare-nodes: take it down first (devcluster down --name %s)", c.Name, c.Name)
			}
			return c, nil
		}
		s.done("the old %s is damaged, removing it", want.Name)
		if err := c.remove(); err != nil {
			return nil, err
		}
	}
	dir, err := clusterDir(want.Name)
	if err != nil {
		return nil, err
	}
	want.dir = dir
	c = &want
	if err := c.claimIndex(); err != nil {
		return nil, err
	}
	return c, c.writePKI()
}

// boot starts what is missing. Nodes start while the control plane does: they
// have images to unpack before they need it.
func (c *cluster) boot(nodes int, t *tools, s *steps) error {
	if err := os.MkdirAll(c.path("logs"), 0o755); err != nil {
		return err
	}
	var missing []int
	for n := 1; n <= nodes; n++ {
		if c.nodeHealth(n) != nil {
			missing = append(missing, n)
		}
	}
	started := c.controlPlaneHealth() == nil
	if started && len(missing) == 0 {
		s.done("%s already runs", c.Name)
	}
	for _, archive := range t.images {
		if _, err := c.rememberImage(archive); err != nil {
			return err
		}
	}
	api := &gate{done: make(chan struct{})}
	errs := make([]error, len(missing)+1)
	var wait sync.WaitGroup
	for i, n := range missing {
		// A node that broke leaves its link and its control group behind.
		if err := c.stopNode(n); err != nil {
			return err
		}
		if err := os.MkdirAll(c.nodePath(n), 0o755); err != nil {
			return err
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			errs[i] = c.startNode(n, t, api, s)
		}()
	}
	errs[len(missing)] = c.bootControlPlane(!started, len(missing) > 0, t, api, s)
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.waitUntilUsable(nodes, s)
}

func (c *cluster) waitUntilUsable(nodes int, s *steps) error {
	a, err := c.newAPI()
	if err != nil {
		return err
	}
	for n := 1; n <= nodes; n++ {
		err := waitFor(nodeName(n)+" to be Ready", nodeDeadline, func() error {
			if err := c.nodeHealth(n); err != nil {
				return &fatal{err}
			}
			return a.nodeReady(nodeName(n))
		})
		if err != nil {
			return err
		}
		s.done("%s Ready", nodeName(n))
	}
	if nodes > 0 {
		if err := c.waitForDNS(); err != nil {
			return err
		}
		s.done("DNS ready")
	}
	return nil
}

// bootControlPlane tells the nodes through api when they can go on.
func (c *cluster) bootControlPlane(start, addons bool, t *tools, api *gate, s *steps) error {
	if start {
		if err := c.startControlPlane(t, s); err != nil {
			api.open(errors.New("the control plane did not start"))
			return err
		}
	}
	api.open(nil)
	if start {
		if err := c.waitForControllers(s); err != nil {
			return err
		}
	}
	if addons {
		return c.startAddons(t)
	}
	return nil
}

// gate tells many at once that they can go on, or that they never can.
type gate struct {
	done chan struct{}
	err  error
}

func (g *gate) open(err error) {
	g.err = err
	close(g.done)
}

func (g *gate) wait() error {
	<-g.done
	return g.err
}
