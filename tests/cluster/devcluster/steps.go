package main

import (
	"fmt"
	"os"
	"time"
)

// steps tells on standard error what was reached and when, counted from the
// command's start; standard output is for what a script reads.
type steps struct {
	started time.Time
}

func newSteps() *steps { return &steps{started: time.Now()} }

func (s *steps) done(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(s.started).Seconds(), fmt.Sprintf(format, args...))
}
