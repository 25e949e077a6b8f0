package main

import (
	"net/http"
	"syscall"
	"testing"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
)

// A process is stopped in the middle of streams, taken for dead and its files taken over;
// then it goes on. The real ends go into a new file, supersede the incomplete ones that the
// sweep wrote, and count once.
func TestAProcessStoppedAndTakenForDeadGoesOnWithoutHarm(t *testing.T) {
	const streams = 6
	server, sink := startAzurite(t), startAnalytics(t)
	w := newWorld(t, server.ConnectionString(), testPolicy)
	region := w.region(1, aoaisim.Options{Name: "a", Kind: true})
	p := startGateway(t, w.environ(sink.env...))
	p.ready()
	region.Fault(aoaisim.Fault{Do: aoaisim.DoStep})
	remote := admin.Remote{URL: p.url, AdminKey: adminKey, Client: http.DefaultClient}
	created, err := remote.Create(t.Context(), admin.NewSubscription{ID: "team", Product: "default"})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{url: p.url, key: created.Primary, http: &http.Client{Transport: &http.Transport{}}}
	seen := make(chan sight, streams)
	for i := range streams {
		go func() { seen <- c.one(t.Context(), asks[1+i%2], "at length [tokens:20]") }()
	}
	region.Step(3 * streams)
	until(t, "the streams have begun", func() bool {
		return region.Counts().Events >= 3*streams && region.Counts().Open == streams && len(readBook(t, server).begins) == streams
	})
	p.signal(syscall.SIGSTOP)
	after := newAftermath(t, server, sink)
	after.sweep()
	if book := readBook(t, server); len(book.incomplete) != streams {
		t.Errorf("%d streams under way were noted as incomplete, want %d", len(book.incomplete), streams)
	}
	p.signal(syscall.SIGCONT)
	region.ClearFaults()
	for range streams {
		if s := <-seen; !s.complete {
			t.Errorf("a stream was not finished: %+v", s)
		}
	}
	book := readBook(t, server)
	ended := 0
	for id := range book.incomplete {
		if book.ends[id].Outcome == gateway.Complete {
			ended++
		}
	}
	if ended != streams {
		t.Errorf("%d of %d ends were written after all", ended, streams)
	}
	until(t, "the sink has the real ends", func() bool {
		ends := 0
		for _, row := range sink.best(t) {
			if row.Revision > 0 {
				ends++
			}
		}
		return ends == len(book.ends)
	})
	_ = p.cmd.Process.Kill()
	<-p.exited
	after = newAftermath(t, server, sink)
	after.sweep()
	sink.check(t, book)
	after.checkUsageOf(book, streams)
	after.checkJournal(false)
}
