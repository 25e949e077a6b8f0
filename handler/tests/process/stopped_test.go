//go:build unix

package process_test

import (
	"syscall"
	"testing"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

// A process is stopped in the middle of streams. It seems dead, so a recovery takes over
// its files. Then the process continues. Its end records go into a new file. They replace
// the incomplete records that the recovery wrote, and are counted once.
func TestStoppedProcessGoesOn(t *testing.T) {
	const streams = 6
	server, sink := harness.StartAzurite(t), startLogAnalytics(t)
	w := harness.NewEnvironment(t, server.ConnectionString(), harness.TestPolicy)
	region := w.Region(1, aoaisim.Options{Name: "a"})
	p := harness.StartProcess(t, w.Environ(sink.env...))
	p.Ready()
	seen := startStreams(t, p, region, streams)
	harness.Until(t, "the streams have begun", func() bool {
		return region.Counts().Events >= 3*streams && region.Counts().Open == streams && len(harness.ReadJournal(t, server).BeginLines) == streams
	})
	p.Signal(syscall.SIGSTOP)
	after := newRecovery(t, server, sink)
	after.sweep()
	if book := harness.ReadJournal(t, server); len(book.Incomplete) != streams {
		t.Errorf("%d streams under way were noted as incomplete, want %d", len(book.Incomplete), streams)
	}
	p.Signal(syscall.SIGCONT)
	region.ClearFaults()
	for range streams {
		if s := <-seen; !s.Complete {
			t.Errorf("a stream was not finished: %+v", s)
		}
	}
	book := harness.ReadJournal(t, server)
	ended := 0
	for id := range book.Incomplete {
		if book.EndLines[id].Outcome == gateway.Complete {
			ended++
		}
	}
	if ended != streams {
		t.Errorf("%d of %d ends were written after all", ended, streams)
	}
	harness.Until(t, "the sink has the real ends", func() bool { return sink.ends(t) == len(book.EndLines) })
	_ = p.Cmd.Process.Kill()
	<-p.Exited
	after = newRecovery(t, server, sink)
	after.sweep()
	sink.check(t, book)
	after.checkUsageOf(book, streams)
	after.checkJournal(false)
}

// ends counts the requests whose newest row is that of an end record.
func (a *logAnalytics) ends(t *testing.T) (n int) {
	for _, row := range a.best(t) {
		if row.Revision > 0 {
			n++
		}
	}
	return n
}
