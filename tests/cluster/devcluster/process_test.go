package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
)

func sleeper(t *testing.T) (*exec.Cmd, string) {
	t.Helper()
	exe, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, exe
}

func TestARecordedProcessIsFoundAndKilled(t *testing.T) {
	cmd, exe := sleeper(t)
	p, err := record(cmd.Process.Pid, exe)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sleep.json")
	if err := p.save(file); err != nil {
		t.Fatal(err)
	}
	loaded, err := loadProcess(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.check(); err != nil {
		t.Fatalf("it runs, but check says: %v", err)
	}
	if err := loaded.kill(); err != nil {
		t.Fatal(err)
	}
	// Not waited for yet, it is a zombie: gone for us.
	if err := loaded.check(); !errors.Is(err, errGone) {
		t.Fatalf("killed, but check says: %v", err)
	}
	if err := loaded.kill(); err != nil {
		t.Fatalf("a second kill: %v", err)
	}
}

func TestAnotherProcessWithTheSamePidIsLeftAlone(t *testing.T) {
	cmd, exe := sleeper(t)
	p, err := record(cmd.Process.Pid, exe)
	if err != nil {
		t.Fatal(err)
	}
	earlier := p
	earlier.Start = "1"
	otherBoot := p
	otherBoot.Boot = "another"
	for name, old := range map[string]process{"started earlier": earlier, "of another boot": otherBoot} {
		if err := old.kill(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	otherProgram := p
	otherProgram.Exes = []string{"/usr/bin/other"}
	if err := otherProgram.kill(); err == nil || errors.Is(err, errGone) {
		t.Errorf("another program under that pid: got %v, expected to be told", err)
	}
	if err := p.check(); err != nil {
		t.Fatalf("the process was touched: %v", err)
	}
}
