package main

import (
	"fmt"
	"os/exec"
	"sort"
	"strings"
)

// hostPrograms are the programs that devcluster calls, with the Debian package
// that holds each. Other distributions' users install them by hand.
var hostPrograms = map[string]string{
	"containerd":           "containerd",
	"ctr":                  "containerd",
	"runc":                 "runc",
	"/usr/lib/cni/bridge":  "containernetworking-plugins",
	"/usr/lib/cni/portmap": "containernetworking-plugins",
	"iptables":             "iptables",
	"ipset":                "ipset",
	"conntrack":            "conntrack",
	"ip":                   "iproute2",
	"nsenter":              "util-linux",
	"mount":                "mount",
	"debootstrap":          "debootstrap",
	"buildah":              "buildah",
}

func missingPackages() (packages []string, programs []string) {
	wanted := map[string]bool{}
	for program, pkg := range hostPrograms {
		if _, err := exec.LookPath(program); err != nil {
			programs = append(programs, program)
			wanted[pkg] = true
		}
	}
	for pkg := range wanted {
		packages = append(packages, pkg)
	}
	sort.Strings(packages)
	sort.Strings(programs)
	return packages, programs
}

// installPackages installs what is missing; apt's own lock is waited for.
func installPackages(s *steps) error {
	packages, programs := missingPackages()
	if len(packages) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("not found: %s; install them (Debian's packages: %s)", strings.Join(programs, " "), strings.Join(packages, " "))
	}
	wait := []string{"-o", "DPkg::Lock::Timeout=600"}
	if _, err := output(append([]string{"apt-get", "update", "--quiet"}, wait...)...); err != nil {
		return err
	}
	install := append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet", "--no-install-recommends"}, wait...)
	if _, err := output(append(install, packages...)...); err != nil {
		return err
	}
	if _, programs := missingPackages(); len(programs) > 0 {
		return fmt.Errorf("still not found after installing %s: %s", strings.Join(packages, " "), strings.Join(programs, " "))
	}
	s.done("installed %s", strings.Join(packages, " "))
	return nil
}
