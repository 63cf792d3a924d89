package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// output runs a program to its end and gives its standard output; an error
// carries the program's own words.
func output(argv ...string) (string, error) {
	return outputWithInput(nil, argv...)
}

func outputWithInput(input io.Reader, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &errs
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(errs.String() + "\n" + out.String())
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said)
	}
	return out.String(), nil
}

// logged runs a long program with its output in a file; an error carries the
// last lines of it and says where the rest is.
func logged(logFile, dir string, env []string, argv ...string) error {
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w; the end of %s:\n%s", strings.Join(argv, " "), err, logFile, tail(logFile, 25))
	}
	return nil
}

// loggedWithoutSync is logged for programs that wait for the disk at every step.
func loggedWithoutSync(logFile, dir string, env []string, argv ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return logged(logFile, dir, env, append([]string{self, noSyncCommand, program}, argv[1:]...)...)
}

func tail(file string, lines int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return "    " + strings.Join(all, "\n    ")
}
