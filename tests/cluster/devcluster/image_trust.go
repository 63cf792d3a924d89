package main

import (
	"errors"
	"os"
	"path/filepath"
)

// caBundle is whom this machine trusts. Where that is more than the usual (a
// company's proxy), package registries answer with certificates of it, and
// package managers in a RUN step have to be told. Each reads a file in its
// user's home, so no Containerfile needs to know.
const caBundle = "/etc/ssl/certs/ca-certificates.crt"

// buildHome is root's home in every image: a folder that exists in the base,
// so mounting over it leaves no trace.
const buildHome = "/root"

func writeBuildHome(home string) error {
	bundle, err := os.ReadFile(caBundle)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	trusted := buildHome + "/trusted.crt"
	for name, text := range map[string]string{
		"trusted.crt":          string(bundle),
		".config/pip/pip.conf": "[global]\ncert = " + trusted + "\ntimeout = 180\ndisable-pip-version-check = true\n",
		".npmrc":               "cafile=" + trusted + "\n",
		".curlrc":              "cacert = " + trusted + "\n",
	} {
		file := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
