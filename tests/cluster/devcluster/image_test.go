package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAContainerfileTellsItsProgramsAndBases(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "settings"), "a file of the folder is no program")
	write(t, filepath.Join(dir, "Containerfile"), `ARG BASE=debian:bookworm-slim
ARG NODE_BASE=node:22-bookworm-slim
ARG TOOL_VERSION=1
FROM ${BASE}
COPY settings /etc/settings
COPY --chown=1:1 paddock-runner /paddock-runner
COPY --from=fetch /fetch/tool /tool
`)
	f, err := readContainerfile(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"paddock-runner"}; !reflect.DeepEqual(f.binaries, want) {
		t.Errorf("programs: got %q, expected %q", f.binaries, want)
	}
	if want := []string{"BASE", "NODE_BASE"}; !reflect.DeepEqual(f.bases, want) {
		t.Errorf("bases: got %q, expected %q", f.bases, want)
	}
}

func TestAnArchiveIsReproducibleAndTellsItsImage(t *testing.T) {
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	write(t, filepath.Join(layout, "blobs/sha256/b"), "manifest")
	write(t, filepath.Join(layout, "blobs/sha256/a"), "layer")
	write(t, filepath.Join(layout, "index.json"), `{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"sha256:b","size":8,"annotations":{"x":"y"}}]}`)
	first, second := filepath.Join(dir, "1.tar"), filepath.Join(dir, "2.tar")
	for _, archive := range []string{first, second} {
		if err := packLayout(layout, "localhost/paddock/x:dev", archive); err != nil {
			t.Fatal(err)
		}
	}
	ref, digest, err := readArchive(first)
	if err != nil || ref != "localhost/paddock/x:dev" || digest != "sha256:b" {
		t.Errorf("got %q %q %v", ref, digest, err)
	}
	one, _ := os.ReadFile(first)
	two, _ := os.ReadFile(second)
	if !bytes.Equal(one, two) {
		t.Error("the same layout gave two different archives")
	}
}

func TestAKeyChangesWithEveryPart(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "1")
	tree := func() string {
		k := newKey("x")
		if err := k.addTree(dir); err != nil {
			t.Fatal(err)
		}
		return k.String()
	}
	before := tree()
	if before != tree() {
		t.Error("the same files gave two keys")
	}
	if err := os.Chmod(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	executable := tree()
	write(t, filepath.Join(dir, "b"), "")
	if executable == before || tree() == executable {
		t.Error("a changed mode or a new file gave the same key")
	}
	if newKey("ab", "c").String() == newKey("a", "bc").String() {
		t.Error("words run into each other")
	}
}
