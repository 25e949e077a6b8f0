// Package derive produces statistics and rows from the journal. Each process derives from its own files while it
// lives. The timer's run recovers the files of processes that died.
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
// It receives the entries of a file in order, without the begins. After an error it receives the same entries again,
// perhaps from the file's beginning and perhaps in other portions. Entries are identified by file, Offset and Index.
// Calls for one file follow each other; calls for several files may overlap.
type Consumer interface {
	// Take returns nil once the entries are accepted, durably where it matters. It should wait for other services for
	// a few seconds at most, because it is called again soon.
	Take(ctx context.Context, file string, entries []gateway.Entry) error
	// Replay receives entries that Take had accepted before this pass over the file, in this process or another. A
	// consumer that makes something of a whole file needs them; others ignore them.
	Replay(ctx context.Context, file string, entries []gateway.Entry) error
	// Close is called when all entries of the file are accepted and no more will come. It may be called again.
	Close(ctx context.Context, file string) error
}

// Options of a Worker; Journal, Manifest and Blobs are needed.
type Options struct {
	Journal   *journal.Writer // this process's
	Manifest  *manifest.Manifest
	Blobs     blob.Store
	Consumers []Consumer
	Every     time.Duration // between two rounds over the own files; default 2 s
	Logger    *slog.Logger  // default: discards
}

// Worker hands the journal to its consumers: Run the files of this process, Recover those of processes that died.
type Worker struct {
	o       Options
	readers []*reader // of the own files, one for each consumer

	mu       sync.Mutex
	progress map[string]*progress // by own file
}

// New makes a worker. It touches neither network nor journal.
func New(o Options) *Worker {
	o.Every = cmp.Or(o.Every, 2*time.Second)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if len(o.Consumers) == 0 {
		o.Consumers = []Consumer{nil} // files must be closed even if nothing is derived
	}
	d := &Worker{o: o, progress: map[string]*progress{}}
	for i, c := range o.Consumers {
		r := d.reader(c)
		r.advanced = func(f manifest.File, offset int64, closed bool) { d.advance(i, f, offset, closed) }
		d.readers = append(d.readers, r)
	}
	return d
}

// Run derives from the own files until ctx ends. A consumer that is slow or fails delays no other.
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

// Finish derives what is left after Run and the journal's writer have ended, as far as ctx allows. A recovery
// derives the rest.
func (d *Worker) Finish(ctx context.Context) {
	var rounds sync.WaitGroup
	for _, r := range d.readers {
		rounds.Go(func() { d.round(ctx, r) })
	}
	rounds.Wait()
	d.o.Journal.Sync(ctx)
}

// round takes a reader to the durable end of every own file.
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
				d.o.Logger.Warn("deriving from the journal failed; the next round tries again", "file", f.Name, "error", err)
			}
			return
		}
	}
}

// advance moves the file's cursor to the position of the slowest consumer.
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

// progress is how far each consumer is in a file.
type progress struct {
	offsets []int64
	closed  []bool
}

func newProgress(consumers int) *progress {
	return &progress{offsets: make([]int64, consumers), closed: make([]bool, consumers)}
}

// set notes one consumer's progress and returns the least offset of all consumers, and whether all have closed.
func (p *progress) set(consumer int, offset int64, closed bool) (least int64, all bool) {
	p.offsets[consumer], p.closed[consumer] = offset, closed
	least, all = offset, true
	for i := range p.offsets {
		least = min(least, p.offsets[i])
		all = all && p.closed[i]
	}
	return least, all
}
