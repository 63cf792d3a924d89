package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// tools are the programs that clusters run, built from Go modules into
// $PADDOCK_CACHE/tools. Every set has a folder named after what it is made of,
// so a finished set is never built twice and a changed one never mixed up.
type tools struct {
	kube, addons, helm string   // folders
	images             []string // archives of what every node needs
}

const (
	kubernetesVersion = "v1.34.4"
	helmVersion       = "v3.20.2"
)

var (
	kubeComponents  = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}
	addonComponents = []string{"coredns", "netpold", "pause", "toolbox", "local-path-provisioner"}
)

// All of it is built without cgo: the same binary then runs in a node, in an
// empty image, and on any Linux.
var goEnvironment = []string{"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false"}

// kubeFlags put the version into the binary that the official build puts in.
func kubeFlags() string {
	version := []string{"-s", "-w",
		"-X", "k8s.io/component-base/version.gitVersion=" + kubernetesVersion,
		"-X", "k8s.io/component-base/version.gitMajor=1",
		"-X", "k8s.io/component-base/version.gitMinor=34",
		"-X", "k8s.io/client-go/pkg/version.gitVersion=" + kubernetesVersion,
	}
	return strings.Join(version, " ")
}

func (t *tools) path(program string) string {
	for _, component := range addonComponents {
		if program == component {
			return filepath.Join(t.addons, program)
		}
	}
	if program == "helm" {
		return filepath.Join(t.helm, program)
	}
	return filepath.Join(t.kube, program)
}

// locateTools finds where the tools of these sources are, built or not.
func locateTools(repo string) (*tools, error) {
	goVersion, err := output("go", "env", "GOVERSION")
	if err != nil {
		return nil, fmt.Errorf("the tools are built with Go, which doesn't answer: %w", err)
	}
	t := &tools{}
	for _, set := range []struct {
		name   string
		folder *string
		module string
		flags  string
	}{
		{"kube", &t.kube, "tests/cluster/kube", kubeFlags()},
		{"addons", &t.addons, "tests/cluster/addons", ""},
		{"helm", &t.helm, "", helmVersion},
	} {
		key := newKey("tools 1", set.name, goVersion, set.flags)
		if set.module != "" {
			for _, pattern := range []string{"go.mod", "go.sum", "*.go", "cmd"} {
				if err := key.addGlob(filepath.Join(repo, set.module), pattern); err != nil {
					return nil, err
				}
			}
		}
		if *set.folder, err = cachePath("tools", set.name+"-"+key.String()); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *tools) complete() bool {
	for _, folder := range []string{t.kube, t.addons, t.helm} {
		if _, err := os.Stat(folder); err != nil {
			return false
		}
	}
	return true
}

// ensureTools builds what is not there yet. The lock makes a second command
// wait for the first one's build instead of repeating it.
func ensureTools(repo string, s *steps) (*tools, error) {
	t, err := locateTools(repo)
	if err != nil {
		return nil, err
	}
	if t.complete() {
		return t, t.linkCommon()
	}
	unlock, err := lock("tools")
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, set := range []struct {
		folder string
		build  func(into, log string) error
	}{
		{t.kube, func(into, log string) error {
			if err := goBuild(filepath.Join(repo, "tests/cluster/kube"), into, log, kubeFlags(), "."); err != nil {
				return err
			}
			return linkComponents(into)
		}},
		{t.addons, func(into, log string) error {
			return goBuild(filepath.Join(repo, "tests/cluster/addons"), into, log, "-s -w", "./cmd/...", "github.com/rancher/local-path-provisioner")
		}},
		{t.helm, func(into, log string) error {
			return logged(log, "/", append([]string{"GOBIN=" + into}, goEnvironment...),
				"go", "install", "-trimpath", "-ldflags", "-s -w", "helm.sh/helm/v3/cmd/helm@"+helmVersion)
		}},
	} {
		if err := buildOnce(set.folder, set.build, s); err != nil {
			return nil, err
		}
	}
	return t, t.linkCommon()
}

// buildOnce builds into a folder beside the wanted one and renames it at the
// end: a folder with the wanted name is always complete.
func buildOnce(folder string, build func(into, log string) error, s *steps) error {
	if _, err := os.Stat(folder); err == nil {
		return nil
	}
	unfinished := folder + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	log, err := cachePath("logs", filepath.Base(folder)+".log")
	if err != nil {
		return err
	}
	for _, dir := range []string{unfinished, filepath.Dir(log)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	s.done("building %s (the first time this takes minutes)", filepath.Base(folder))
	if err := build(unfinished, log); err != nil {
		return fmt.Errorf("build %s: %w", filepath.Base(folder), err)
	}
	if err := os.Rename(unfinished, folder); err != nil {
		return err
	}
	s.done("built %s", filepath.Base(folder))
	return nil
}

func goBuild(module, into, log, ldflags string, packages ...string) error {
	argv := append([]string{"go", "build", "-trimpath", "-ldflags", ldflags, "-o", into + "/"}, packages...)
	return logged(log, module, goEnvironment, argv...)
}

// linkComponents gives the one binary the names by which it knows its parts.
func linkComponents(into string) error {
	for _, component := range kubeComponents {
		if err := os.Symlink("kube", filepath.Join(into, component)); err != nil {
			return err
		}
	}
	return nil
}

// linkCommon keeps $PADDOCK_CACHE/tools/bin pointing at the newest of each, for
// people and scripts that want kubectl and helm in their PATH.
func (t *tools) linkCommon() error {
	bin, err := cachePath("tools", "bin")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	for _, program := range append(append([]string{"helm"}, kubeComponents...), addonComponents...) {
		link := filepath.Join(bin, program)
		if now, err := os.Readlink(link); err == nil && now == t.path(program) {
			continue
		}
		if err := os.Remove(link + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Symlink(t.path(program), link+".new"); err != nil {
			return err
		}
		if err := os.Rename(link+".new", link); err != nil {
			return err
		}
	}
	return nil
}

func runBuild(args []string) error {
	flags := newFlags("build", "", `Builds etcd, Kubernetes, the add-ons and helm into $PADDOCK_CACHE/tools, makes
the images that every cluster needs, and installs missing Debian packages.
Prints the folder with kubectl and helm. Does nothing when all is there.`)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := noArguments(flags); err != nil {
		return err
	}
	s := newSteps()
	if _, err := prepare(s); err != nil {
		return err
	}
	bin, err := cachePath("tools", "bin")
	if err != nil {
		return err
	}
	fmt.Println(bin)
	return nil
}

// prepare makes sure of all that a cluster is made from.
func prepare(s *steps) (*tools, error) {
	if err := needRoot(); err != nil {
		return nil, err
	}
	if err := installPackages(s); err != nil {
		return nil, err
	}
	repo, err := repoDir()
	if err != nil {
		return nil, err
	}
	t, err := ensureTools(repo, s)
	if err != nil {
		return nil, err
	}
	t.images, err = ensureSystemImages(repo, t, s)
	return t, err
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("nodes are namespaces with their own mounts and links: run this as root")
	}
	return nil
}
