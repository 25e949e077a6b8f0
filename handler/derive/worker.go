// Package derive produces statistics and rows from the journal. Each process derives from
// its own files while it lives. The timer recovers the files of processes that died.
package derive

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/manifest"
)

// Consumer derives something from the journal.
//
// It receives the entries of a file in order, without begin records. After an error it
// receives the same entries again, possibly from the beginning of the file, and possibly
// split differently. File, Offset and Index identify an entry. Calls for the same file do
// not overlap; calls for different files may.
type Consumer interface {
	// Take returns nil when it has accepted the entries; what it makes of them must then be
	// durable. It should not wait for other services for more than a few seconds, because
	// it is called again soon.
	Take(ctx context.Context, file string, entries []gateway.Entry) error
	// Replay receives entries that Take has accepted before, in this process or another. A
	// consumer that needs all entries of a file uses them; other consumers ignore them.
	Replay(ctx context.Context, file string, entries []gateway.Entry) error
	// Close is called when all entries of the file are accepted and no more will follow. It
	// may be called again.
	Close(ctx context.Context, file string) error
}

// Options of a Worker. Journal, Manifest and Blobs are required.
type Options struct {
	Journal   *journal.Writer // the journal of this process
	Manifest  *manifest.Manifest
	Blobs     blob.Store
	Consumers []Consumer
	Every     time.Duration // time between two rounds over the files of this process; default 2 s
	Logger    *slog.Logger  // default: nothing is logged
}

// Worker hands entries of the journal to consumers. Run handles the files of this process,
// Recover the files of processes that died.
type Worker struct {
	o       Options
	readers []*reader // for the files of this process, one reader for each consumer

	mu       sync.Mutex
	progress map[string]*progress // by name of the file, for files of this process
}

// New returns a Worker. It does not use the network or the journal yet.
func New(o Options) *Worker {
	o.Every = cmp.Or(o.Every, 2*time.Second)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if len(o.Consumers) == 0 {
		o.Consumers = []Consumer{nil} // without consumers, files must still be marked as done
	}
	d := &Worker{o: o, progress: map[string]*progress{}}
	for i, c := range o.Consumers {
		r := d.reader(c)
		r.advanced = func(f manifest.File, offset int64, closed bool) { d.advance(i, f, offset, closed) }
		d.readers = append(d.readers, r)
	}
	return d
}

// Run derives from the files of this process until ctx ends. A slow or failing consumer
// does not delay the others.
func (d *Worker) Run(ctx context.Context) {
	var loops sync.WaitGroup
	for _, r := range d.readers {
		loops.Go(func() {
			tick := time.NewTicker(d.o.Every)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					d.round(ctx, r)
				}
			}
		})
	}
	loops.Wait()
}

// Finish derives what remains after Run has returned and the journal's writer was closed,
// as long as ctx allows. What remains after that is left to a recovery.
func (d *Worker) Finish(ctx context.Context) {
	var rounds sync.WaitGroup
	for _, r := range d.readers {
		rounds.Go(func() { d.round(ctx, r) })
	}
	rounds.Wait()
	d.o.Journal.Sync(ctx)
}

// round reads all files of this process up to what is durable.
func (d *Worker) round(ctx context.Context, r *reader) {
	for _, f := range d.o.Journal.Files() {
		if f.Number < r.file {
			continue
		}
		if f.Number > r.file {
			r.file, r.at = f.Number, position{}
		}
		err := r.read(ctx, f, f.Length, 0)
		if err == nil && f.State == manifest.Sealed {
			err = r.close(ctx, f)
		}
		if err != nil {
			if ctx.Err() == nil {
				d.o.Logger.Warn("a consumer did not accept entries of the journal; the next round tries again", "file", f.Name, "error", err)
			}
			return
		}
	}
}

// advance moves the file's cursor in the manifest to the position that all consumers have
// reached.
func (d *Worker) advance(consumer int, f manifest.File, offset int64, closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.progress[f.Name]
	if p == nil {
		p = newProgress(len(d.readers))
		d.progress[f.Name] = p
	}
	least, all := p.set(consumer, offset, closed)
	d.o.Journal.Advance(f.Name, least)
	if all {
		d.o.Journal.Finish(f.Name)
		delete(d.progress, f.Name)
	}
}

// progress is the position of each consumer in a file.
type progress struct {
	offsets []int64
	closed  []bool
}

func newProgress(consumers int) *progress {
	return &progress{offsets: make([]int64, consumers), closed: make([]bool, consumers)}
}

// set notes the position of one consumer. It returns the lowest position of all consumers,
// and whether all have closed the file.
func (p *progress) set(consumer int, offset int64, closed bool) (least int64, all bool) {
	p.offsets[consumer], p.closed[consumer] = offset, closed
	least, all = offset, true
	for i := range p.offsets {
		least = min(least, p.offsets[i])
		all = all && p.closed[i]
	}
	return least, all
}
