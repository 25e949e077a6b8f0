// Package derive makes statistics and rows of what stands in the journal. Each process
// derives from its own files while it lives; the timer's run recovers the files of processes
// that died.
package derive

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
)

// Consumer derives something from the journal: rows elsewhere, sums.
//
// It is handed the entries of a file in order, begins left out. After an error the same
// entries come again, perhaps from the file's beginning, perhaps in other portions: entries
// are known again by file, Offset and Index. replay marks those that had been accepted when
// the pass began, by another process or this one: they are there for what is made from a
// file as a whole. Calls for one file follow each other; those for several may overlap.
type Consumer interface {
	// Take accepts entries, durably where it matters, or returns an error. It should not
	// wait longer than a few seconds for others: it is called again soon.
	Take(ctx context.Context, file journal.File, entries []journal.Entry, replay bool) error
	// Close is called when all entries of the file are accepted and there will be no more.
	// It may be called again.
	Close(ctx context.Context, file journal.File) error
}

// DeriverOptions of a Deriver; Journal, Rows and Blobs are needed.
type DeriverOptions struct {
	Journal   *journal.Writer // this process's
	Rows      *journal.Rows
	Blobs     blob.Store
	Consumers []Consumer
	Every     time.Duration // between two looks at the own files; default 2 s
	Logger    *slog.Logger  // default: discards
}

// Deriver hands what is in the journal to its consumers: Run that of this process, Sweep
// that of processes that died.
type Deriver struct {
	o       DeriverOptions
	readers []*reader // of the own files, one a consumer

	mu       sync.Mutex
	progress map[string]*progress // of the own files
}

// progress is how far each consumer is in a file.
type progress struct {
	offsets []int64
	closed  []bool
}

// NewDeriver touches neither network nor journal.
func NewDeriver(o DeriverOptions) *Deriver {
	if o.Every <= 0 {
		o.Every = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.Consumers) == 0 {
		o.Consumers = []Consumer{nil} // files are closed all the same
	}
	d := &Deriver{o: o, progress: map[string]*progress{}}
	for i, c := range o.Consumers {
		r := d.reader(c)
		r.advanced = func(f journal.File, offset int64, closed bool) { d.advance(i, f, offset, closed) }
		d.readers = append(d.readers, r)
	}
	return d
}

// Run derives from the own files until ctx ends. A consumer that is slow or fails holds up
// no other.
func (d *Deriver) Run(ctx context.Context) {
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

// Finish derives what is left once Run and the journal's writer have ended, as far as ctx
// allows: what it leaves, a sweep takes over.
func (d *Deriver) Finish(ctx context.Context) {
	var rounds sync.WaitGroup
	for _, r := range d.readers {
		rounds.Go(func() { d.round(ctx, r) })
	}
	rounds.Wait()
	d.o.Journal.Sync(ctx)
}

// round takes a reader to the durable end of every own file.
func (d *Deriver) round(ctx context.Context, r *reader) {
	for _, f := range d.o.Journal.Files() {
		if f.Number < r.file {
			continue
		}
		if f.Number > r.file {
			r.file, r.at = f.Number, position{}
		}
		err := r.take(ctx, f, f.Length, 0)
		if err == nil && f.State == journal.Sealed {
			err = r.close(ctx, f)
		}
		if err != nil {
			if ctx.Err() == nil {
				d.o.Logger.Warn("journal could not be derived from", "file", f.Name, "error", err)
			}
			return
		}
	}
}

// advance moves the file's cursor to where the slowest consumer is.
func (d *Deriver) advance(consumer int, f journal.File, offset int64, closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.progress[f.Name]
	if p == nil {
		p = newProgress(len(d.readers))
		d.progress[f.Name] = p
	}
	least, all := p.set(consumer, offset, closed)
	d.o.Journal.Shipped(f.Name, least, all)
	if all {
		delete(d.progress, f.Name)
	}
}

func newProgress(consumers int) *progress {
	return &progress{offsets: make([]int64, consumers), closed: make([]bool, consumers)}
}

// set notes one consumer's progress and returns that of all.
func (p *progress) set(consumer int, offset int64, closed bool) (least int64, all bool) {
	p.offsets[consumer], p.closed[consumer] = offset, closed
	least, all = offset, true
	for i := range p.offsets {
		least = min(least, p.offsets[i])
		all = all && p.closed[i]
	}
	return least, all
}

// portionSize is the bytes of lines handed over at once, or a single line.
const portionSize = 4 << 20

// position is the next line of a file.
type position struct {
	offset int64
	line   int
}

// reader takes one consumer through a process's files.
type reader struct {
	d        *Deriver
	consumer Consumer
	advanced func(f journal.File, offset int64, closed bool)
	begins   *begins
	file     int
	at       position // all before was accepted
	portion  []journal.Entry
	size     int
	gone     []string // ids that ended in the portion
}

func (d *Deriver) reader(c Consumer) *reader {
	return &reader{d: d, consumer: c, begins: newBegins(d.o.Blobs)}
}

// take hands over the file's lines before offset to. Entries before offset replay are
// marked as such.
func (r *reader) take(ctx context.Context, f journal.File, to, replay int64) error {
	if r.at.offset >= to {
		return nil
	}
	if r.consumer == nil {
		r.accepted(f, position{offset: to})
		return nil
	}
	from := r.at
	defer func() { r.portion, r.gone, r.size = nil, nil, 0 }()
	for m, err := range journal.ReadFrom(ctx, r.d.o.Blobs, f.Name, from.offset) {
		if _, broken := errors.AsType[*journal.BreakError](err); broken {
			r.d.o.Logger.Error("journal cannot be read on; the rest of the file is left out", "file", f.Name, "error", err)
			break
		}
		if err != nil {
			return err
		}
		if m.Offset >= to {
			break
		}
		skip := 0
		if m.Offset == from.offset {
			skip = from.line
		}
		if err := r.member(ctx, f, m, skip, m.Offset < replay); err != nil {
			return err
		}
		end := m.Offset + m.Length
		if r.size >= portionSize || end >= to || m.Offset < replay && end >= replay {
			if err := r.deliver(ctx, f, position{offset: end}, m.Offset < replay); err != nil {
				return err
			}
		}
	}
	return r.deliver(ctx, f, position{offset: to}, false)
}

// member adds the lines of one member to the portion.
func (r *reader) member(ctx context.Context, f journal.File, m journal.Member, skip int, replay bool) error {
	r.begins.listed(m)
	for i, raw := range m.Records {
		if i < skip {
			continue
		}
		if err := r.line(ctx, f, m, i); err != nil {
			return err
		}
		if r.size += len(raw); r.size >= portionSize && i+1 < len(m.Records) {
			if err := r.deliver(ctx, f, position{m.Offset, i + 1}, replay); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) line(ctx context.Context, f journal.File, m journal.Member, i int) error {
	raw, at := m.Records[i], place{f.Name, m.Offset}
	t, id := kind(raw)
	switch t {
	case gateway.Begin:
		r.begins.begun(id, at, raw)
		return nil
	case gateway.End:
		r.begins.endAt(id, at)
		r.gone = append(r.gone, id)
	case gateway.Amend, gateway.Incomplete:
	}
	line, err := r.begins.complete(ctx, raw)
	if errors.Is(err, errNoLine) {
		r.d.o.Logger.Error("journal has a line that is none", "file", f.Name, "offset", m.Offset, "line", i)
		return nil
	}
	if err != nil {
		return err
	}
	if line.Request != nil {
		r.size += line.Request.ContentSize()
	}
	r.portion = append(r.portion, journal.Entry{Line: line, Offset: m.Offset, Index: i, Seq: m.Seq, Hash: m.Hash})
	return nil
}

// takeTimeout bounds one call of a consumer.
const takeTimeout = 30 * time.Second

// deliver hands the portion over and moves to next.
func (r *reader) deliver(ctx context.Context, f journal.File, next position, replay bool) error {
	if len(r.portion) > 0 {
		ctx, cancel := context.WithTimeout(ctx, takeTimeout)
		defer cancel()
		if err := r.consumer.Take(ctx, f, r.portion, replay); err != nil {
			return err
		}
	}
	for _, id := range r.gone {
		r.begins.left(id)
	}
	r.portion, r.gone, r.size = nil, nil, 0
	r.accepted(f, next)
	return nil
}

func (r *reader) accepted(f journal.File, next position) {
	if next.offset > r.at.offset || next.offset == r.at.offset && next.line > r.at.line {
		r.at = next
	}
	r.advanced(f, r.at.offset, false)
}

// close tells the consumer that the file is complete, and goes on to the next.
func (r *reader) close(ctx context.Context, f journal.File) error {
	if r.consumer != nil {
		ctx, cancel := context.WithTimeout(ctx, takeTimeout)
		defer cancel()
		if err := r.consumer.Close(ctx, f); err != nil {
			return err
		}
	}
	r.advanced(f, r.at.offset, true)
	r.file, r.at = f.Number+1, position{}
	return nil
}
