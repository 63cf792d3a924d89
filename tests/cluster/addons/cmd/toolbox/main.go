// Command toolbox is what test pods run: one static binary for an image with
// nothing else in it, so no shell and no base image are needed to try out a
// cluster. The volume provisioner's helper pods use it too.
//
//	toolbox serve ADDR          answer every HTTP request with this host's name
//	toolbox get URL             print a URL's body; fails unless the status is 200
//	toolbox lookup NAME         print a name's addresses
//	toolbox write FILE TEXT     write a file
//	toolbox read FILE           print a file
//	toolbox -p DIR -a create    make a volume's folder, open to every user
//	toolbox -p DIR -a delete    remove it with all that is in it
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const patience = 3 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "toolbox:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	verb, rest := "", args
	if len(args) > 0 {
		verb, rest = args[0], args[1:]
	}
	switch {
	case verb == "serve" && len(rest) == 1:
		return serve(rest[0])
	case verb == "get" && len(rest) == 1:
		return get(rest[0])
	case verb == "lookup" && len(rest) == 1:
		return lookup(rest[0])
	case verb == "write" && len(rest) == 2:
		return os.WriteFile(rest[0], []byte(rest[1]), 0o644)
	case verb == "read" && len(rest) == 1:
		text, err := os.ReadFile(rest[0])
		fmt.Print(string(text))
		return err
	case verb == "-p": // how local-path-provisioner calls its set-up and its teardown
		return volume(args)
	}
	return fmt.Errorf("unknown call %q; known: serve ADDR, get URL, lookup NAME, write FILE TEXT, read FILE, -p DIR -a create|delete", strings.Join(args, " "))
}

func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              address,
		ReadHeaderTimeout: patience,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, name)
		}),
	}
	// As a pod's first process it gets no default action for SIGTERM.
	stopping, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	go func() {
		<-stopping.Done()
		_ = server.Close()
	}()
	fmt.Println("serving on", address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func get(url string) error {
	client := &http.Client{Timeout: patience}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, answer.Status)
	}
	return nil
}

func lookup(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(addresses, "\n"))
	return nil
}

func volume(args []string) error {
	flags := flag.NewFlagSet("volume", flag.ContinueOnError)
	dir := flags.String("p", "", "the volume's folder")
	action := flags.String("a", "", "create or delete")
	flags.String("s", "", "size in bytes, not enforced")
	flags.String("m", "", "volume mode, always a file system")
	if err := flags.Parse(args); err != nil {
		return err
	}
	// A wrong folder here would remove one of the machine's.
	if !filepath.IsAbs(*dir) || len(strings.Split(filepath.Clean(*dir), "/")) < 4 {
		return fmt.Errorf("volume %s: %q is not a volume's folder", *action, *dir)
	}
	switch *action {
	case "create":
		if err := os.MkdirAll(*dir, 0o777); err != nil {
			return err
		}
		return os.Chmod(*dir, 0o777) // past the umask
	case "delete":
		return os.RemoveAll(*dir)
	}
	return fmt.Errorf("volume: unknown action %q; known: create, delete", *action)
}
