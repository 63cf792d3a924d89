package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
)

// containerfile is what devcluster has to know of one image's build.
type containerfile struct {
	dir      string
	binaries []string // programs copied from outside the folder
	bases    []string // names of the build arguments that stand for base images
}

var (
	// COPY paddock-runner /paddock-runner: a word without a slash that starts
	// the line's sources and isn't a file of the folder is a built program.
	copiedProgram = regexp.MustCompile(`(?m)^COPY\s+(?:--ch\S+\s+)*([a-z][a-z0-9-]*)\s+/`)
	baseArgument  = regexp.MustCompile(`(?m)^ARG\s+((?:[A-Z]+_)?BASE)=`)
)

func readContainerfile(dir string) (*containerfile, error) {
	text, err := os.ReadFile(filepath.Join(dir, "Containerfile"))
	if err != nil {
		return nil, err
	}
	f := &containerfile{dir: dir}
	for _, match := range copiedProgram.FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join(dir, match[1])); errors.Is(err, os.ErrNotExist) {
			f.binaries = append(f.binaries, match[1])
		}
	}
	for _, match := range baseArgument.FindAllStringSubmatch(string(text), -1) {
		f.bases = append(f.bases, match[1])
	}
	sort.Strings(f.binaries)
	sort.Strings(f.bases)
	return f, nil
}

// composeContext makes a build context: the folder's files and the programs.
func (f *containerfile) composeContext(binaries, into string) error {
	if err := os.CopyFS(into, os.DirFS(f.dir)); err != nil {
		return err
	}
	for _, program := range f.binaries {
		if err := copyProgram(filepath.Join(binaries, program), filepath.Join(into, program)); err != nil {
			return err
		}
	}
	return nil
}

func copyProgram(from, to string) error {
	program, err := os.ReadFile(from)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is not there: build it first, or name its folder with --binaries", from)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(to, program, 0o755)
}
