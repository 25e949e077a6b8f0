package journal

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/journal/manifest"
)

// Why Append refused a line.
var (
	ErrFull    = errors.New("journal: the backlog is full")
	ErrTooLong = errors.New("journal: the line is too long for one batch")
	ErrClosed  = errors.New("journal: the writer is closed")
)

// MaxLine is the longest line that Append takes. A batch with such a line fits one append, whatever its bytes are.
const MaxLine = format.MaxRaw - format.MaxHeader

// DefaultInterval is the time between the starts of two commits, and its setting's default.
const DefaultInterval = 100 * time.Millisecond

// Options of a Writer; only Blobs is needed.
type Options struct {
	Blobs      blob.Store
	Manifest   *manifest.Manifest // nil = files have no entries
	Logger     *slog.Logger       // default: discards
	Interval   time.Duration      // between the starts of two commits; 0 = DefaultInterval
	MaxBacklog int64              // bytes of lines not yet durable; default 64 MiB
	MaxAppends int                // appends to one file; default 45,000 of the service's 50,000
	TryTimeout time.Duration      // of one blob operation; default 10 s
	RetryPause time.Duration      // after the first failure, doubling up to 2 s; default 50 ms
}

func (o Options) withDefaults() Options {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.MaxBacklog = cmp.Or(o.MaxBacklog, 64<<20)
	o.MaxAppends = cmp.Or(o.MaxAppends, 45_000)
	o.TryTimeout = cmp.Or(o.TryTimeout, 10*time.Second)
	o.RetryPause = cmp.Or(o.RetryPause, 50*time.Millisecond)
	return o
}

// Writer is one process's journal. Safe for concurrent use.
type Writer struct {
	o       Options
	process string

	mu      sync.Mutex
	queue   []*Pending // appended, in no group yet
	queued  int64      // bytes of queue
	backlog int64      // bytes of queue and of the group being committed
	closed  bool

	wake     chan struct{} // holds one token when the committer must look at the queue
	closing  chan struct{} // closed by Close: flush without pauses, then stop
	stopped  chan struct{} // closed when the committer has ended
	abandon  context.CancelFunc
	manifest *manifest.Writer // nil without a manifest
}

// New starts a writer. It opens its first file with the first line.
func New(o Options) *Writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writer{
		o:       o.withDefaults(),
		process: newProcess(),
		wake:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
		abandon: cancel,
	}
	c := &committer{Options: w.o, process: w.process}
	if w.o.Manifest != nil {
		busy := func() bool {
			used, _ := w.Backlog()
			return used > 0 || c.inFlight.len() > 0
		}
		w.manifest = manifest.NewWriter(w.o.Manifest, w.process, busy, w.o.Logger)
		c.manifest = w.manifest
	}
	go w.run(ctx, c)
	return w
}

func newProcess() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// Process is the random name of this writer in the names of its files.
func (w *Writer) Process() string { return w.process }

// Append queues line, one JSON object without a line break, and owns it from then on. It does not block.
func (w *Writer) Append(line []byte) (*Pending, error) {
	return w.append(&Pending{line: line})
}

// AppendBegin is Append for the line that puts request id in flight. Files opened before its end is durable list it.
func (w *Writer) AppendBegin(id string, line []byte) (*Pending, error) {
	return w.append(&Pending{line: line, id: id})
}

// AppendEnd is Append for the line that ends request id.
func (w *Writer) AppendEnd(id string, line []byte) (*Pending, error) {
	return w.append(&Pending{line: line, id: id, ends: true})
}

func (w *Writer) append(p *Pending) (*Pending, error) {
	n := p.size()
	if n > MaxLine {
		return nil, ErrTooLong
	}
	p.done, p.stopped, p.wakeUp = make(chan struct{}), w.stopped, w.wakeUp
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return nil, ErrClosed
	case w.backlog+n > w.o.MaxBacklog:
		return nil, ErrFull
	}
	w.queue = append(w.queue, p)
	w.queued += n
	w.backlog += n
	if len(w.queue) == 1 {
		time.AfterFunc(w.o.Interval, w.wakeUp)
	}
	return p, nil
}

// wakeUp makes the committer look at the queue. A needless call does no harm.
func (w *Writer) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Backlog returns the bytes that are not durable yet and the bound beyond which Append refuses, so that a caller can
// refuse new requests while there is room for the ends of those it let in.
func (w *Writer) Backlog() (used, limit int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.backlog, w.o.MaxBacklog
}

// Close takes no more lines, makes the queued ones durable and stops the writer. If ctx ends first, it gives up and
// returns an error.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.closing)
	}
	w.mu.Unlock()
	select {
	case <-w.stopped:
	case <-ctx.Done():
		w.abandon()
		<-w.stopped
	}
	w.manifest.Stop()
	w.manifest.Flush(ctx)
	if used, _ := w.Backlog(); used > 0 {
		return errors.Join(errors.New("journal: the writer was closed before all lines were durable"), ctx.Err())
	}
	return nil
}
