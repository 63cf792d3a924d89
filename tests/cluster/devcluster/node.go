package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A node is one process with its own network, mounts, processes, host name and
// IPC, and in it containerd, kubelet, kube-proxy and netpold. Its end is the
// end of all of that, so nodes can be killed like machines.

// nodeComponents is the order in which a node's programs start.
var nodeComponents = []string{"containerd", "kubelet", "kube-proxy", "netpold"}

const nodeDeadline = 90 * time.Second

// nodeInit is the name of the node's own process among its components.
func nodeInit(n int) string { return nodeName(n) }

func nodeComponent(n int, component string) string { return nodeName(n) + "-" + component }

// startNode makes a node and starts what runs in it; it does not wait for the
// node to be Ready. A node that ran before keeps its disk, like a machine that
// is switched on again.
func (c *cluster) startNode(n int, t *tools, api *gate, s *steps) error {
	if err := c.prepareNode(n); err != nil {
		return err
	}
	init, err := c.startNodeInit(n)
	if err != nil {
		return err
	}
	if err := c.joinNode(n, init); err != nil {
		return err
	}
	argv, err := c.nodeArgv(n, t)
	if err != nil {
		return err
	}
	for _, component := range nodeComponents {
		if err := c.saveArgv(nodeComponent(n, component), argv[component]); err != nil {
			return err
		}
	}
	if err := c.startInNode(n, "containerd"); err != nil {
		return err
	}
	if err := c.waitForContainerd(n); err != nil {
		return err
	}
	if err := c.loadKnownImages(n); err != nil {
		return err
	}
	s.done("%s has its images", nodeName(n))
	// A kubelet that finds no API server first waits long before it asks again.
	if err := api.wait(); err != nil {
		return err
	}
	for _, component := range []string{"kubelet", "kube-proxy", "netpold"} {
		if err := c.startInNode(n, component); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) prepareNode(n int) error {
	if err := c.writeNodeFiles(n); err != nil {
		return err
	}
	name := nodeName(n)
	if _, err := os.Stat(c.pki(name + ".crt")); err != nil {
		ca, err := loadAuthority(c.path("pki"))
		if err != nil {
			return err
		}
		who := identity{user: "system:node:" + name, groups: []string{"system:nodes"}, names: []string{name}, ips: []string{c.nodeIP(n), "127.0.0.1"}}
		if err := ca.issue(name, who); err != nil {
			return err
		}
		if err := c.writeKubeconfig(c.path("kubeconfigs", name), name); err != nil {
			return err
		}
	}
	return c.makeCgroup(n)
}

func (c *cluster) startNodeInit(n int) (process, error) {
	layout := nodeLayout{
		Hostname: nodeName(n),
		Binds: map[string]string{
			"/var/log":         c.nodePath(n, "log"),
			"/var/lib/kubelet": c.nodePath(n, "kubelet"),
		},
		// What a machine forgets when it is switched off: sockets, and which
		// pod has which address.
		Tmpfs: []string{"/run", "/var/lib/cni"},
		Ready: c.nodePath(n, "init.ready"),
	}
	if err := os.Remove(layout.Ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		return process{}, err
	}
	file := c.nodePath(n, "init.json")
	if err := writeJSON(file, layout); err != nil {
		return process{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return process{}, err
	}
	component := nodeInit(n)
	init, err := startHeld([]string{nodeInitCommand, file}, self, c.log(component), c.recordFile(component), &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	})
	if err != nil {
		return process{}, err
	}
	return init, waitFor(component+"'s file systems", 10*time.Second, func() error {
		result, err := os.ReadFile(layout.Ready)
		if err == nil && string(result) != "ok" {
			return &fatal{errors.New(string(result))}
		}
		if err != nil {
			if gone := c.mustRun(component); gone != nil {
				return gone
			}
		}
		return err
	})
}

func (c *cluster) nodeArgv(n int, t *tools) (map[string][]string, error) {
	name := nodeName(n)
	containerd, err := exec.LookPath("containerd")
	if err != nil {
		return nil, err
	}
	return map[string][]string{
		"containerd": {containerd, "--config=" + c.nodePath(n, "containerd.toml")},
		"kubelet": {t.path("kubelet"),
			"--kubeconfig=" + c.path("kubeconfigs", name), "--config=" + c.nodePath(n, "kubelet.yaml"),
			"--hostname-override=" + name, "--node-ip=" + c.nodeIP(n)},
		"kube-proxy": {t.path("kube-proxy"),
			"--kubeconfig=" + c.path("kubeconfigs", "kube-proxy"), "--hostname-override=" + name,
			"--proxy-mode=iptables", "--cluster-cidr=" + c.podCIDR(), "--iptables-min-sync-period=100ms",
			// The machine's own connection tracking limits stay as they are.
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"},
		"netpold": {t.path("netpold"),
			"--kubeconfig=" + c.path("kubeconfigs", "netpold"), "--hostname-override=" + name,
			"--service-cluster-ip-range=" + c.serviceCIDR(), "--iptables-sync-period=5m"},
	}, nil
}

// startInNode starts one of the node's programs as it was called before.
func (c *cluster) startInNode(n int, component string) error {
	init, err := loadProcess(c.recordFile(nodeInit(n)))
	if err != nil {
		return err
	}
	if err := init.check(); err != nil {
		return fmt.Errorf("%s: %w", nodeName(n), err)
	}
	name := nodeComponent(n, component)
	var argv []string
	if err := readJSON(c.argvFile(name), &argv); err != nil {
		return err
	}
	if component == "containerd" {
		// An old socket file would look like a containerd that answers.
		if err := os.Remove(c.containerdSocket(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	_, err = startInNamespaces(init, argv, c.log(name), c.recordFile(name))
	return err
}

func (c *cluster) waitForContainerd(n int) error {
	return waitFor("containerd of "+nodeName(n), nodeDeadline, func() error {
		if err := c.mustRun(nodeComponent(n, "containerd")); err != nil {
			return err
		}
		_, err := c.ctr(n, "version")
		return err
	})
}

// ctr talks to a node's containerd from outside: a socket is a file.
func (c *cluster) ctr(n int, args ...string) (string, error) {
	return output(append([]string{"ctr", "--address", c.containerdSocket(n), "--namespace", "k8s.io"}, args...)...)
}

// nodeHealth: nil when the node and all of its programs run.
func (c *cluster) nodeHealth(n int) error {
	var errs []error
	for _, component := range nodeComponents {
		if err := c.running(nodeComponent(n, component)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", nodeComponent(n, component), err))
		}
	}
	return errors.Join(append(errs, c.running(nodeInit(n)))...)
}

// stopNode ends a node like a power cut; its disk stays.
func (c *cluster) stopNode(n int) error {
	init, err := loadProcess(c.recordFile(nodeInit(n)))
	if err == nil {
		err = init.kill()
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(c.leaveNode(n), c.removeCgroup(n))
}
