package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

func runImageLoad(args []string) error {
	flags := newFlags("image load", "--name NAME ARCHIVE...", `Imports OCI archives into every node's containerd. A node that has the image
with the same digest is skipped; nodes that start later get it too.`)
	name := flags.String("name", "dev", "the cluster's name")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("image load: which archives? (see devcluster image build)")
	}
	if err := needRoot(); err != nil {
		return err
	}
	unlock, err := lockCluster(*name)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := loadCluster(*name)
	if err != nil {
		return err
	}
	s := newSteps()
	var refs []string
	for _, archive := range flags.Args() {
		ref, err := c.rememberImage(archive)
		if err != nil {
			return err
		}
		refs = append(refs, ref)
	}
	if err := c.importEverywhere(); err != nil {
		return err
	}
	s.done("%s: %s", c.Name, strings.Join(refs, " "))
	return nil
}

// rememberImage keeps a second name of the archive's file with the cluster, so
// that it is still there for a node that starts when the cache moved on. One
// image reference has one archive, the newest.
func (c *cluster) rememberImage(archive string) (ref string, err error) {
	ref, digest, err := readArchive(archive)
	if err != nil {
		return "", err
	}
	kept := c.path("images", strings.NewReplacer("/", "_", ":", "_").Replace(ref)+".tar")
	if _, old, err := readArchive(kept); err == nil && old == digest {
		return ref, nil
	}
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		return "", err
	}
	if err := os.Remove(kept); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if os.Link(archive, kept) == nil {
		return ref, nil
	}
	_, err = output("cp", archive, kept) // another file system
	return ref, err
}

func (c *cluster) importEverywhere() error {
	var running []int
	for _, n := range c.nodes() {
		if c.running(nodeComponent(n, "containerd")) == nil {
			running = append(running, n)
		}
	}
	errs := make([]error, len(running))
	var wait sync.WaitGroup
	for i, n := range running {
		wait.Add(1)
		go func() {
			defer wait.Done()
			errs[i] = c.loadKnownImages(n)
		}()
	}
	wait.Wait()
	return errors.Join(errs...)
}

// loadKnownImages gives a node every image of the cluster that it hasn't.
func (c *cluster) loadKnownImages(n int) error {
	archives, err := filepath.Glob(c.path("images", "*.tar"))
	if err != nil {
		return err
	}
	present, err := c.nodeImages(n)
	if err != nil {
		return err
	}
	for _, archive := range archives {
		ref, digest, err := readArchive(archive)
		if err != nil {
			return err
		}
		if present[ref] == digest {
			continue
		}
		if _, err := c.ctr(n, "images", "import", archive); err != nil {
			return fmt.Errorf("import %s into %s: %w", ref, nodeName(n), err)
		}
	}
	return nil
}

// nodeImages lists a node's images with their digests.
func (c *cluster) nodeImages(n int) (map[string]string, error) {
	list, err := c.ctr(n, "images", "list")
	if err != nil {
		return nil, err
	}
	images := map[string]string{}
	for _, line := range strings.Split(list, "\n") {
		// REF TYPE DIGEST SIZE PLATFORMS LABELS
		if fields := strings.Fields(line); len(fields) > 2 && strings.HasPrefix(fields[2], "sha256:") {
			images[fields[0]] = fields[2]
		}
	}
	return images, nil
}
