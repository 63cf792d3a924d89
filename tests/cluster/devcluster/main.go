// Command devcluster boots real Kubernetes clusters on one Linux machine
// without a container registry, and builds and loads the images they run.
// Everything comes from package registries and this repository's sources.
//
// It needs root: nodes are namespaces. What it makes is recorded before it is
// used, so that "down" removes all of it, also after a crash.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// command is one word of the command line: what follows it is its own.
type command struct {
	words []string
	about string
	run   func(args []string) error
}

func commands() []command {
	return []command{
		{[]string{"build"}, "build the tools (Kubernetes, add-ons, helm) into the cache", runBuild},
		{[]string{"up"}, "boot a cluster, or complete one that runs", runUp},
		{[]string{"down"}, "remove a cluster with all that belongs to it", runDown},
		{[]string{"list"}, "list clusters and how they are", runList},
		{[]string{"kubeconfig"}, "print the path of a cluster's admin kubeconfig", runKubeconfig},
		{[]string{"component", "kill"}, "SIGKILL one component or a whole node", runComponentKill},
		{[]string{"component", "start"}, "start a killed component or node again", runComponentStart},
		{[]string{"image", "build"}, "build images into OCI archives", runImageBuild},
		{[]string{"image", "load"}, "import OCI archives into a cluster's nodes", runImageLoad},
	}
}

// hidden commands are how devcluster starts itself, never typed by a person.
func hidden() []command {
	return []command{
		{[]string{holdCommand}, "", runHold},
		{[]string{nodeInitCommand}, "", runNodeInit},
		{[]string{noSyncCommand}, "", runNoSync},
	}
}

func main() {
	err := dispatch(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "devcluster:", err)
		os.Exit(1)
	}
}

func dispatch(args []string) error {
	for _, c := range append(commands(), hidden()...) {
		n := len(c.words)
		if len(args) >= n && slices.Equal(args[:n], c.words) {
			return c.run(args[n:])
		}
	}
	usage()
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "--help", "-help"}, args[0]) {
		return nil
	}
	return fmt.Errorf("unknown command %q", strings.Join(args, " "))
}

func usage() {
	fmt.Fprint(os.Stderr, `devcluster: Kubernetes clusters for tests, on this machine, without a registry

usage: devcluster COMMAND [FLAGS]      (COMMAND --help tells the flags)

`)
	for _, c := range commands() {
		fmt.Fprintf(os.Stderr, "  %-16s %s\n", strings.Join(c.words, " "), c.about)
	}
	fmt.Fprint(os.Stderr, `
environment:
  PADDOCK_CACHE    where tools, images and clusters are kept (default ~/.cache/paddock)
  PADDOCK_REPO     the repository's root (default: found upwards from the working folder)
`)
}

// newFlags makes a command's flag set; its help starts with what it is about.
func newFlags(name, arguments, about string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: devcluster %s %s\n\n%s\n\n", name, arguments, about)
		flags.PrintDefaults()
	}
	return flags
}

func noArguments(flags *flag.FlagSet) error {
	if flags.NArg() > 0 {
		return fmt.Errorf("%s takes no arguments, got %q", flags.Name(), strings.Join(flags.Args(), " "))
	}
	return nil
}
