package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is the record of one started process. A pid alone is no name: it is
// used again after the process ended, so a record also holds when the process
// started, in which boot of the machine, and which programs it may be running.
type process struct {
	Pid   int      `json:"pid"`
	Start string   `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
	Boot  string   `json:"boot"`
	Exes  []string `json:"exes"`
}

// errGone: no process fits the record, it may be forgotten.
var errGone = errors.New("not running")

const killDeadline = 20 * time.Second

// check says whether the recorded process runs. A zombie does not: it waits
// for its parent only.
func (p process) check() error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	state, start, err := procStat(p.Pid)
	if err != nil || boot != p.Boot || start != p.Start || state == "Z" || state == "X" {
		return errGone
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.Pid))
	if err != nil {
		return errGone // it ended in between
	}
	// "go run" removes the program it started, the process runs on.
	exe = strings.TrimSuffix(exe, " (deleted)")
	for _, known := range p.Exes {
		if exe == known {
			return nil
		}
	}
	return fmt.Errorf("process %d was recorded as %s but runs %s: not touched", p.Pid, strings.Join(p.Exes, " or "), exe)
}

// kill ends the recorded process at once and waits until it is gone.
func (p process) kill() error {
	err := p.check()
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := syscall.Kill(p.Pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("kill process %d: %w", p.Pid, err)
	}
	return waitFor(fmt.Sprintf("the end of process %d", p.Pid), killDeadline, func() error {
		if err := p.check(); !errors.Is(err, errGone) {
			return errors.New("it still runs after SIGKILL")
		}
		return nil
	})
}

func record(pid int, exes ...string) (process, error) {
	boot, err := bootID()
	if err != nil {
		return process{}, err
	}
	_, start, err := procStat(pid)
	if err != nil {
		return process{}, fmt.Errorf("process %d ended at once: %w", pid, err)
	}
	p := process{Pid: pid, Start: start, Boot: boot}
	for _, exe := range exes {
		real, err := filepath.EvalSymlinks(exe)
		if err != nil {
			return process{}, err
		}
		p.Exes = append(p.Exes, real)
	}
	return p, nil
}

func (p process) save(file string) error { return writeJSON(file, p) }

func loadProcess(file string) (process, error) {
	var p process
	return p, readJSON(file, &p)
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// procStat gives the state and the start time of a process.
func procStat(pid int) (state, start string, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	// The second field is the program's name in brackets, and may hold anything.
	_, rest, found := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 {
		return "", "", fmt.Errorf("/proc/%d/stat has an unknown form", pid)
	}
	return fields[0], fields[19], nil
}

func children(pid int) ([]int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread ended in between
		}
		for _, word := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				return nil, err
			}
			pids = append(pids, child)
		}
	}
	return pids, nil
}

// holdCommand starts a program only after its record is on disk. Were
// devcluster itself killed between the start and the record, the held process
// would see its pipe close and end: nothing runs that "down" doesn't know.
const holdCommand = "hold"

// heldPipe is where a held process reads its permission to go on.
const heldPipe = 3

func awaitPermission() error {
	pipe := os.NewFile(heldPipe, "permission")
	defer pipe.Close()
	if _, err := pipe.Read(make([]byte, 1)); err != nil {
		return errors.New("devcluster ended before it recorded this process")
	}
	return nil
}

func runHold(args []string) error {
	if err := awaitPermission(); err != nil {
		return err
	}
	return runNoSync(args)
}

// startHeld starts devcluster with these arguments as a process of its own
// session, records it in a file, and lets it go on. It may go on to run exe.
func startHeld(args []string, exe, logFile, recordFile string, attributes *syscall.SysProcAttr) (process, error) {
	self, err := os.Executable()
	if err != nil {
		return process{}, err
	}
	for _, file := range []string{logFile, recordFile} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return process{}, err
		}
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return process{}, err
	}
	defer log.Close()
	permission, grant, err := os.Pipe()
	if err != nil {
		return process{}, err
	}
	defer permission.Close()
	defer grant.Close()
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{permission}
	cmd.SysProcAttr = attributes
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start %s: %w", strings.Join(args, " "), err)
	}
	go func() { _ = cmd.Wait() }() // no zombie while this command runs
	p, err := record(cmd.Process.Pid, self, exe)
	if err == nil {
		err = p.save(recordFile)
	}
	if err == nil {
		_, err = grant.Write([]byte{1})
	}
	return p, err
}

// startProcess starts a program in this machine's own namespaces.
func startProcess(argv []string, logFile, recordFile string) (process, error) {
	return startHeld(append([]string{holdCommand}, argv...), argv[0], logFile, recordFile, &syscall.SysProcAttr{Setsid: true})
}

// startInNamespaces starts a program in the namespaces of another process. The
// record is of the program itself, not of nsenter, which only waits for it.
func startInNamespaces(target process, argv []string, logFile, recordFile string) (process, error) {
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return process{}, err
	}
	enter := append([]string{nsenter, "-t", strconv.Itoa(target.Pid), "-m", "-n", "-p", "-u", "-i", "--"}, argv...)
	// Not held by a record of nsenter: the node's end ends this process too.
	outer, err := startProcess(enter, logFile, recordFile)
	if err != nil {
		return process{}, err
	}
	exe, err := filepath.EvalSymlinks(argv[0])
	if err != nil {
		return process{}, err
	}
	var inner process
	err = waitFor(filepath.Base(argv[0])+" to start in the node", 10*time.Second, func() error {
		pids, err := children(outer.Pid)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if now, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); now == exe {
				inner, err = record(pid, argv[0])
				return err
			}
		}
		if outer.check() != nil {
			return &fatal{fmt.Errorf("it ended at once; the end of %s:\n%s", logFile, tail(logFile, 8))}
		}
		return errors.New("not yet")
	})
	if err != nil {
		return process{}, err
	}
	return inner, inner.save(recordFile)
}

func writeJSON(file string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	// Whole or not at all: a reader never sees half a record.
	temporary := file + ".new"
	if err := os.WriteFile(temporary, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}

func readJSON(file string, value any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}
