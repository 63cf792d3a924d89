package main

import (
	"fmt"
	"time"
)

const pollEvery = 50 * time.Millisecond

// waitFor asks until there is no error, or the deadline is over; then the last
// error tells what was missing. A *fatal error ends the wait at once.
func waitFor(what string, deadline time.Duration, ask func() error) error {
	end := time.Now().Add(deadline)
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if _, stop := err.(*fatal); stop || time.Now().After(end) {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		time.Sleep(pollEvery)
	}
}

// fatal is an error that waiting longer can't mend.
type fatal struct{ error }

func (f *fatal) Unwrap() error { return f.error }
