package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"aoaigateway/handler/journal/verify"
)

// hour is a time of the command line, cut to the hour.
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
	return fmt.Errorf("%q is not an hour; write it in UTC, as 2026-11-23 or 2026-11-23T14", text)
}

type verifyCommand struct {
	From hour `help:"First hour (UTC), such as 2026-11-23T14; without it, from the first."`
	To   hour `help:"Hour (UTC) to stop before; without it, to the last."`
}

var (
	errBroken = errors.New("the journal is not as it was written")
	errNewer  = errors.New("a newer program wrote parts of the journal, which this program cannot verify")
)

// Run works on the storage that the settings name, even with --url.
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
