package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// Folders under $PADDOCK_CACHE. All of it can be thrown away while no cluster
// runs; the next build makes it again.

func cacheDir() (string, error) {
	if dir := os.Getenv("PADDOCK_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w; set PADDOCK_CACHE", err)
	}
	return filepath.Join(home, ".cache", "paddock"), nil
}

func cachePath(parts ...string) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(append([]string{dir}, parts...)...), nil
}

// repoDir is the repository's root: $PADDOCK_REPO, or the first folder upwards
// from the working folder that holds these sources.
func repoDir() (string, error) {
	const marker = "tests/cluster/kube/go.mod"
	start := os.Getenv("PADDOCK_REPO")
	if start == "" {
		var err error
		if start, err = os.Getwd(); err != nil {
			return "", err
		}
	}
	start, err := filepath.Abs(start)
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, marker)); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no %s in %s or above it: run devcluster inside the repository or set PADDOCK_REPO", marker, start)
		}
	}
}
