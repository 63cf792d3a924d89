package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// A cluster's network on the host: one bridge, to which every node is joined
// by a veth pair. The host reaches pods and Services by routes over the nodes.
//
// Nothing of it ever leaves the machine: nodes have no default route, what
// comes in from the bridge is not forwarded by the host's default route, and
// the host itself doesn't send the cluster's addresses there either.

const clusterIndexes = 10

func (c *cluster) bridge() string         { return fmt.Sprintf("pdk%d", c.Index) }
func (c *cluster) gateway() string        { return fmt.Sprintf("10.%d.0.1", 200+c.Index) }
func (c *cluster) nodeIP(n int) string    { return fmt.Sprintf("10.%d.0.%d", 200+c.Index, 10+n) }
func (c *cluster) podCIDR() string        { return fmt.Sprintf("10.%d.0.0/16", 140+c.Index) }
func (c *cluster) serviceCIDR() string    { return fmt.Sprintf("10.%d.0.0/16", 90+c.Index) }
func (c *cluster) serviceIP(n int) string { return fmt.Sprintf("10.%d.0.%d", 90+c.Index, n) }
func (c *cluster) dnsIP() string          { return c.serviceIP(10) }
func (c *cluster) apiURL() string         { return "https://" + c.gateway() + ":6443" }

// loopback is for components that only this machine talks to: each cluster has
// its own address of 127/8, so that usual port numbers never clash.
func (c *cluster) loopback() string { return fmt.Sprintf("127.0.%d.1", 200+c.Index) }

func (c *cluster) nodePodCIDR(n int) string {
	return fmt.Sprintf("10.%d.%d.0/24", 140+c.Index, n)
}

func (c *cluster) veth(n int) string { return fmt.Sprintf("pdk%dn%d", c.Index, n) }

// Preferences of this cluster's two rules, before the host's "main" (32766).
func (c *cluster) localRule() string { return strconv.Itoa(1000 + c.Index) }
func (c *cluster) guardRule() string { return strconv.Itoa(1100 + c.Index) }

// claimIndex gives the cluster the first free index and its bridge. The lock
// keeps two clusters that boot at the same moment from taking the same one.
func (c *cluster) claimIndex() error {
	unlock, err := lock("index")
	if err != nil {
		return err
	}
	defer unlock()
	taken, err := takenIndexes()
	if err != nil {
		return err
	}
	routes, err := output("ip", "-o", "route", "show", "table", "all")
	if err != nil {
		return err
	}
	for c.Index = 0; c.Index < clusterIndexes; c.Index++ {
		if taken[c.Index] || linkExists(c.bridge()) || c.addressesUsed(routes) {
			continue
		}
		// Recorded before it exists: a crash right here leaves nothing unknown.
		if err := c.save(); err != nil {
			return err
		}
		return c.makeBridge()
	}
	return fmt.Errorf("all %d places for clusters are taken: take one down (devcluster list)", clusterIndexes)
}

func takenIndexes() (map[int]bool, error) {
	names, err := clusterNames()
	if err != nil {
		return nil, err
	}
	taken := map[int]bool{}
	for _, name := range names {
		other, err := loadCluster(name)
		if err != nil {
			return nil, err
		}
		taken[other.Index] = true
	}
	return taken, nil
}

func linkExists(name string) bool {
	_, err := os.Stat("/sys/class/net/" + name)
	return err == nil
}

// addressesUsed: does the machine have a route into one of the cluster's nets?
func (c *cluster) addressesUsed(routes string) bool {
	for _, second := range []int{200 + c.Index, 140 + c.Index, 90 + c.Index} {
		for _, word := range strings.Fields(routes) {
			if strings.HasPrefix(word, fmt.Sprintf("10.%d.", second)) {
				return true
			}
		}
	}
	return false
}

func (c *cluster) makeBridge() error {
	bridge := c.bridge()
	for _, args := range [][]string{
		{"link", "add", bridge, "type", "bridge"},
		{"addr", "add", c.gateway() + "/24", "dev", bridge},
		{"link", "set", bridge, "up"},
		{"route", "add", "unreachable", c.serviceCIDR(), "metric", "9999"},
		{"route", "add", "unreachable", c.podCIDR(), "metric", "9999"},
		{"rule", "add", "iif", bridge, "pref", c.localRule(), "lookup", "main", "suppress_prefixlength", "0"},
		{"rule", "add", "iif", bridge, "pref", c.guardRule(), "unreachable"},
	} {
		if _, err := output(append([]string{"ip"}, args...)...); err != nil {
			return err
		}
	}
	// For this link alone, so the machine's own setting stays as it is.
	return os.WriteFile("/proc/sys/net/ipv4/conf/"+bridge+"/forwarding", []byte("1"), 0o644)
}

// joinNode gives a node its link, its address and its routes.
func (c *cluster) joinNode(n int, init process) error {
	pid := strconv.Itoa(init.Pid)
	veth := c.veth(n)
	for _, args := range [][]string{
		{"link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", pid},
		{"link", "set", veth, "master", c.bridge(), "up"},
		{"route", "replace", c.nodePodCIDR(n), "via", c.nodeIP(n)},
	} {
		if _, err := output(append([]string{"ip"}, args...)...); err != nil {
			return err
		}
	}
	if n == 1 {
		// The host's way to Services is node 1's kube-proxy.
		if _, err := output("ip", "route", "replace", c.serviceCIDR(), "via", c.nodeIP(n)); err != nil {
			return err
		}
	}
	inside := strings.NewReader(strings.Join([]string{
		"link set lo up",
		"addr add " + c.nodeIP(n) + "/24 dev eth0",
		"link set eth0 up",
		"route add " + c.podCIDR() + " via " + c.gateway(),
		// A route must exist before kube-proxy can change the destination;
		// pods on the host network need it. There is no default route.
		"route add " + c.serviceCIDR() + " dev eth0",
	}, "\n"))
	_, err := outputWithInput(inside, "nsenter", "-t", pid, "-n", "ip", "-batch", "-")
	return err
}

func (c *cluster) leaveNode(n int) error {
	return removeLink(c.veth(n)) // routes over it go with it
}

func (c *cluster) removeNetwork() error {
	var errs []error
	for n := 1; n <= maxNodes; n++ {
		errs = append(errs, c.leaveNode(n))
	}
	errs = append(errs, removeLink(c.bridge()))
	for _, rule := range []string{c.localRule(), c.guardRule()} {
		errs = append(errs, removeAll("rule", "del", "iif", c.bridge(), "pref", rule))
	}
	for _, cidr := range []string{c.serviceCIDR(), c.podCIDR()} {
		errs = append(errs, removeAll("route", "del", "unreachable", cidr))
	}
	return errors.Join(errs...)
}

func removeLink(name string) error {
	if !linkExists(name) {
		return nil
	}
	if _, err := output("ip", "link", "del", name); err != nil && linkExists(name) {
		return err
	}
	return nil
}

// removeAll repeats a removal until there is nothing left of that kind.
func removeAll(args ...string) error {
	const sane = 20
	for range sane {
		_, err := output(append([]string{"ip"}, args...)...)
		if err != nil {
			if strings.Contains(err.Error(), "No such") {
				return nil
			}
			return err
		}
	}
	return fmt.Errorf("ip %s: still there after %d times", strings.Join(args, " "), sane)
}
