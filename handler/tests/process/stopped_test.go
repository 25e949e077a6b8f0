//go:build unix

package process_test

import (
	"net/http"
	"syscall"
	"testing"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/cli"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

// A process is stopped in the middle of streams, taken for dead and its files taken over;
// then it goes on. The real ends go into a new file, supersede the incomplete ones that the
// sweep wrote, and count once.
func TestStoppedProcessGoesOn(t *testing.T) {
	const streams = 6
	server, sink := harness.StartAzurite(t), startLogAnalytics(t)
	w := harness.NewEnvironment(t, server.ConnectionString(), harness.TestPolicy)
	region := w.Region(1, aoaisim.Options{Name: "a", Kind: true})
	p := harness.StartProcess(t, w.Environ(sink.env...))
	p.Ready()
	region.Fault(aoaisim.Fault{Do: aoaisim.DoStep})
	remote := cli.Remote{URL: p.URL, Key: harness.AdminKey, Client: http.DefaultClient}
	created, err := remote.Create(t.Context(), admin.NewSubscription{ID: "team", Product: "default"})
	if err != nil {
		t.Fatal(err)
	}
	c := &harness.Client{URL: p.URL, Key: created.Primary, HTTP: &http.Client{Transport: &http.Transport{}}}
	seen := make(chan harness.Observation, streams)
	for i := range streams {
		go func() { seen <- c.One(t.Context(), harness.Asks[1+i%2], "at length [tokens:20]") }()
	}
	region.Step(3 * streams)
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
	harness.Until(t, "the sink has the real ends", func() bool {
		ends := 0
		for _, row := range sink.best(t) {
			if row.Revision > 0 {
				ends++
			}
		}
		return ends == len(book.EndLines)
	})
	_ = p.Cmd.Process.Kill()
	<-p.Exited
	after = newRecovery(t, server, sink)
	after.sweep()
	sink.check(t, book)
	after.checkUsageOf(book, streams)
	after.checkJournal(false)
}
