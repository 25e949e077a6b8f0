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

// The reasons why Append refuses a line.
var (
	ErrFull    = errors.New("journal: the backlog is full")
	ErrTooLong = errors.New("journal: the line is too long for one batch")
	ErrClosed  = errors.New("journal: the writer is closed")
)

// MaxLine is the greatest length in bytes of a line that Append accepts. A batch with such
// a line fits into one append, even if it cannot be compressed.
const MaxLine = format.MaxRaw - format.MaxHeader

// DefaultInterval is the time between the beginnings of two commits. It is also the default
// of the setting.
const DefaultInterval = 100 * time.Millisecond

// Options of a Writer. Only Blobs is required.
type Options struct {
	Blobs      blob.Store
	Manifest   *manifest.Manifest // nil = the files have no manifest entries
	Logger     *slog.Logger       // default: nothing is logged
	Interval   time.Duration      // time between the beginnings of two commits; 0 = DefaultInterval
	MaxBacklog int64              // limit of the bytes of lines that are not durable yet; default 64 MiB
	MaxAppends int                // appends to one file; default 45,000, because the service allows 50,000
	TryTimeout time.Duration      // time limit of one operation on a blob; default 10 s
	RetryPause time.Duration      // pause after a failure; doubled after each further one, up to 2 s; default 50 ms
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

// Writer writes the journal of one process. Safe for concurrent use.
type Writer struct {
	o       Options
	process string

	mu      sync.Mutex
	queue   []*Pending // lines that were appended and are in no group yet
	queued  int64      // bytes of the lines in queue
	backlog int64      // bytes of the lines in queue and in the group that is being committed
	closed  bool

	wake     chan struct{} // has capacity 1; an element tells the committer to look at the queue
	closing  chan struct{} // closed by Close: commit the queue without pauses and stop
	stopped  chan struct{} // closed when the committer has ended
	abandon  context.CancelFunc
	manifest *manifest.Writer // nil without a manifest
}

// New starts a Writer. The Writer opens its first file when it has a line to write.
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
	_, _ = rand.Read(id[:]) // cannot fail
	return hex.EncodeToString(id[:])
}

// Process returns the random id of this writer, which is part of the names of its files.
func (w *Writer) Process() string { return w.process }

// Append queues line, which must be one JSON object without a line break. The caller must
// not use line afterwards. Append does not block.
func (w *Writer) Append(line []byte) (*Pending, error) {
	return w.append(&Pending{line: line})
}

// AppendBegin appends the line that begins the request id. The request is in flight until
// its end is durable, and files that are opened until then list it.
func (w *Writer) AppendBegin(id string, line []byte) (*Pending, error) {
	return w.append(&Pending{line: line, id: id})
}

// AppendEnd appends the line that ends the request id.
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

// wakeUp tells the committer to look at the queue. It may be called more often than needed.
func (w *Writer) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Backlog returns how many bytes are not durable yet, and the limit beyond which Append
// refuses lines. With this a caller can refuse new requests while there is still room for
// the end records of accepted ones.
func (w *Writer) Backlog() (used, limit int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.backlog, w.o.MaxBacklog
}

// Close refuses further lines, makes the queued lines durable and stops the writer. If ctx
// ends first, it stops without that and returns an error.
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
		return errors.Join(errors.New("journal: closing the writer took too long; some lines are not durable"), ctx.Err())
	}
	return nil
}
