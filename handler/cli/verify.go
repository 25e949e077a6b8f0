package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"aoaigateway/handler/journal/verify"
)

// hour is a command-line option with a time, rounded down to the hour.
type hour struct{ time.Time }

var hourLayouts = []string{time.DateOnly, "2006-01-02T15", "2006-01-02T15:04", time.RFC3339}

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hour) UnmarshalText(text []byte) error {
	for _, layout := range hourLayouts {
		if t, err := time.Parse(layout, string(text)); err == nil {
			h.Time = t.UTC().Truncate(time.Hour)
			return nil
		}
	}
	return fmt.Errorf("%q is not an hour; write an hour in UTC, such as 2026-11-23 or 2026-11-23T14", text)
}

type verifyCommand struct {
	From hour `help:"First hour in UTC, such as 2026-11-23T14. Without it: the first hour of the journal."`
	To   hour `help:"Hour after the last one, in UTC. Without it: the end of the journal."`
}

var (
	errBroken = errors.New("the journal was altered or damaged")
	errNewer  = errors.New("a newer program wrote parts of the journal, which this program cannot verify")
)

// Run verifies the journal in the storage that the settings name, even if --url is given.
func (c *verifyCommand) Run(e *env) error {
	began := time.Now()
	r, err := verifyJournal(e.ctx, e.Environ, c.From.Time, c.To.Time)
	if err != nil {
		return err
	}
	if err := e.print(r, func(w io.Writer) { printReport(w, r, time.Since(began)) }); err != nil {
		return err
	}
	switch {
	case len(r.Breaks) > 0:
		return errBroken
	case len(r.Newer) > 0:
		return errNewer
	}
	return nil
}

func printReport(w io.Writer, r verify.Report, took time.Duration) {
	_, _ = fmt.Fprintf(w, "files\t%d\nbatches\t%d\nrecords\t%d\nbodies\t%d\nbeyond checkpoint\t%d\n",
		r.Files, r.Batches, r.Records, r.Bodies, r.BeyondCheckpoint)
	_, _ = fmt.Fprintf(w, "read\t%.1f MB in %.1f s\n", float64(r.Bytes)/1e6, took.Seconds())
	switch n := len(r.Breaks); n {
	case 0:
		_, _ = fmt.Fprintln(w, "breaks\tnone")
	default:
		_, _ = fmt.Fprintf(w, "breaks\t%d\nfirst break\t%v\n", n, r.Breaks[0])
	}
	if n := len(r.Newer); n > 0 {
		_, _ = fmt.Fprintf(w, "not verified\t%d\nfirst not verified\t%s\n", n, r.Newer[0])
	}
}
