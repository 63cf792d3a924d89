package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
)

// maxNodes is what a cluster's address plan has room for.
const maxNodes = 9

// cluster is what is recorded of one cluster: enough to find and remove all
// that belongs to it, whoever made it and however it ended.
type cluster struct {
	Name         string `json:"name"`
	Index        int    `json:"index"` // chooses names and addresses, see network.go
	FastNodeLoss bool   `json:"fastNodeLoss"`
	// Nodes from this one on are spare, none where it is 0.
	FirstSpare int `json:"firstSpare,omitempty"`

	dir string
}

var clusterName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,18}[a-z0-9]$`)

// errNoCluster: nothing is recorded under that name.
var errNoCluster = errors.New("no such cluster")

func clusterDir(name string) (string, error) {
	if !clusterName.MatchString(name) {
		return "", fmt.Errorf("--name %q: a cluster's name is 2 to 20 lower case letters, digits and hyphens, a letter first", name)
	}
	return cachePath("clusters", name)
}

func loadCluster(name string) (*cluster, error) {
	dir, err := clusterDir(name)
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir}
	err = readJSON(filepath.Join(dir, "cluster.json"), c)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; see devcluster list", name, errNoCluster)
	}
	return c, err
}

func (c *cluster) save() error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	return writeJSON(c.path("cluster.json"), c)
}

func clusterNames() ([]string, error) {
	pattern, err := cachePath("clusters", "*", "cluster.json")
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, file := range files {
		names = append(names, filepath.Base(filepath.Dir(file)))
	}
	return names, nil
}

// lockCluster keeps two commands from working on one cluster at a time.
func lockCluster(name string) (func(), error) { return lock("cluster-" + name) }

func (c *cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *cluster) pki(file string) string             { return c.path("pki", file) }
func (c *cluster) log(component string) string        { return c.path("logs", component+".log") }
func (c *cluster) kubeconfig() string                 { return c.path("kubeconfig") }
func (c *cluster) recordFile(component string) string { return c.path("processes", component+".json") }
func (c *cluster) argvFile(component string) string   { return c.path("components", component+".json") }

// nodePath is a file of node n: all that a node keeps is below nodes/N.
func (c *cluster) nodePath(n int, parts ...string) string {
	return c.path(append([]string{"nodes", strconv.Itoa(n)}, parts...)...)
}

// nodes tells which nodes were made, running or not.
func (c *cluster) nodes() []int {
	var numbers []int
	dirs, _ := filepath.Glob(c.path("nodes", "*"))
	for _, dir := range dirs {
		if n, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			numbers = append(numbers, n)
		}
	}
	sort.Ints(numbers)
	return numbers
}

// spareTaint keeps pods that don't tolerate it off the spare nodes.
const spareTaint = "devcluster/spare"

func (c *cluster) isSpare(n int) bool { return c.FirstSpare != 0 && n >= c.FirstSpare }

func nodeName(n int) string { return fmt.Sprintf("node%d", n) }

// running tells whether a component's recorded process runs.
func (c *cluster) running(component string) error {
	p, err := loadProcess(c.recordFile(component))
	if errors.Is(err, os.ErrNotExist) {
		return errGone
	}
	if err != nil {
		return err
	}
	return p.check()
}
