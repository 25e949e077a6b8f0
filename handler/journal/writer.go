package journal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"aoaigateway/handler/blob"
)

// Why a line was not taken.
var (
	ErrFull    = errors.New("journal: backlog is full")
	ErrTooLong = errors.New("journal: line is too long for one member")
	ErrClosed  = errors.New("journal: writer is closed")
)

// MaxLine is the longest line Append takes: whatever its bytes, a member of it fits one append.
const MaxLine = maxRaw - maxHeader

// DefaultInterval is the time between the starts of two commits, and its setting's default.
const DefaultInterval = 100 * time.Millisecond

// Options of a Writer; only Blobs is needed.
type Options struct {
	Blobs      blob.Store
	Manifest   *Manifest     // nil = none are kept
	Logger     *slog.Logger  // default: discards
	Interval   time.Duration // between the starts of two commits; 0 = DefaultInterval
	MaxBacklog int64         // bytes of lines not yet durable; default 64 MiB
	MaxAppends int           // appends before a file is rolled; default 45,000 of the service's 50,000
	TryTimeout time.Duration // of one blob operation; default 10 s
	RetryPause time.Duration // after the first failure, doubling up to 2 s; default 50 ms
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Interval = positiveOr(o.Interval, DefaultInterval)
	o.MaxBacklog = positiveOr(o.MaxBacklog, 64<<20)
	o.MaxAppends = positiveOr(o.MaxAppends, 45_000)
	o.TryTimeout = positiveOr(o.TryTimeout, 10*time.Second)
	o.RetryPause = positiveOr(o.RetryPause, 50*time.Millisecond)
	return o
}

// Writer is one process's journal. Safe for concurrent use.
type Writer struct {
	o       Options
	process string

	mu      sync.Mutex
	queue   []*Pending // appended, in no group yet
	queued  int64      // bytes of queue
	backlog int64      // bytes of queue and of the group in flight
	closed  bool

	wake     chan struct{} // holds one token when the queue is to be looked at
	closing  chan struct{} // closed by Close: flush without pause, then stop
	stopped  chan struct{} // closed when the committer has ended
	abandon  context.CancelFunc
	manifest *manifestWriter // nil without rows
}

// Pending is a line on its way.
type Pending struct {
	line    []byte // nil once durable
	id      string // of the request that the line begins or ends, if it does
	ends    bool
	done    chan struct{}
	stopped <-chan struct{}
	wakeUp  func() // has the committer start as soon as it may
}

// Done is closed when the line is durable, and never otherwise.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait returns nil once the line is durable; an error says only that it is not yet known to
// be. A line somebody waits for is committed at once when the last commit is an Interval
// ago; a line nobody waits for stays up to an Interval for company.
func (p *Pending) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	p.wakeUp()
	select {
	case <-p.done:
		return nil
	case <-p.stopped:
	case <-ctx.Done():
	}
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return ErrClosed
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
		w.manifest = newManifestWriter(w.o, w.process, func() bool {
			used, _ := w.Backlog()
			return used > 0 || c.inFlight.len() > 0
		})
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

// Append queues line, one JSON object without a newline, and owns it from then on. It does
// not block.
func (w *Writer) Append(line []byte) (*Pending, error) {
	return w.append(&Pending{line: line})
}

// AppendBegin is Append for the line after which request id is open: files opened from
// then on until its end is durable name it.
func (w *Writer) AppendBegin(id string, line []byte) (*Pending, error) {
	return w.append(&Pending{line: line, id: id})
}

// AppendEnd is Append for the line after which request id is open no more.
func (w *Writer) AppendEnd(id string, line []byte) (*Pending, error) {
	return w.append(&Pending{line: line, id: id, ends: true})
}

func (w *Writer) append(p *Pending) (*Pending, error) {
	n := int64(len(p.line)) + 1
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

// rouse has the committer look at the queue; a needless call does no harm.
func (w *Writer) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Backlog returns the bytes not yet durable and the bound beyond which Append refuses, so
// that a caller can refuse new work while there is room left to end what it began.
func (w *Writer) Backlog() (used, limit int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.backlog, w.o.MaxBacklog
}

// Close takes no more lines, makes the queued ones durable and stops the writer. When ctx
// ends first it gives up and the rest stays undurable.
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
	w.manifest.stop()
	w.manifest.flush(ctx)
	if used, _ := w.Backlog(); used > 0 {
		return errors.Join(errors.New("journal: closed with lines that are not durable"), ctx.Err())
	}
	return nil
}

// run commits groups until the writer is closed and its queue empty, or ctx ends.
func (w *Writer) run(ctx context.Context, c *committer) {
	defer close(w.stopped)
	defer w.abandon()
	for w.waitForLines(ctx, c) {
		group := w.take()
		if len(group) == 0 { // the group before had taken them already
			continue
		}
		started := time.Now()
		for ; len(group) > 0; group = w.takeFull() {
			if !c.commit(ctx, group) {
				return
			}
			w.release(group)
		}
		w.pause(ctx, started)
	}
	if ctx.Err() == nil {
		c.closeFile()
	}
}

// waitForLines reports false when there are none and will be none.
func (w *Writer) waitForLines(ctx context.Context, c *committer) bool {
	var idle <-chan time.Time
	if w.manifest != nil && c.file != nil {
		timer := time.NewTimer(closeIdleAfter)
		defer timer.Stop()
		idle = timer.C
	}
	for {
		select {
		case <-w.wake:
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		case <-idle: // or it would be taken for dead, and the next request find out
			c.closeFile()
		case <-w.closing:
			used, _ := w.Backlog()
			return used > 0 && ctx.Err() == nil
		}
	}
}

// pause keeps commits an Interval apart, start to start.
func (w *Writer) pause(ctx context.Context, started time.Time) {
	timer := time.NewTimer(w.o.Interval - time.Since(started))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.closing:
	case <-ctx.Done():
	}
}

// take removes from the queue what fits one member.
func (w *Writer) take() []*Pending {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, int64(0)
	for _, p := range w.queue {
		if size+int64(len(p.line))+1 > MaxLine {
			break
		}
		size += int64(len(p.line)) + 1
		n++
	}
	group := w.queue[:n:n]
	w.queue = append([]*Pending(nil), w.queue[n:]...)
	w.queued -= size
	return group
}

// takeFull returns the next group if more than one member's worth is waiting: such a group
// has no reason to wait for company.
func (w *Writer) takeFull() []*Pending {
	w.mu.Lock()
	full := w.queued > MaxLine
	w.mu.Unlock()
	if !full {
		w.wakeForRest()
		return nil
	}
	return w.take()
}

// rewake restores the token for lines that a take left behind.
func (w *Writer) wakeForRest() {
	w.mu.Lock()
	left := len(w.queue)
	w.mu.Unlock()
	if left > 0 {
		w.wakeUp()
	}
}

// release frees a durable group's room and tells its waiters, in this order: who was told
// can rely on the room.
func (w *Writer) release(group []*Pending) {
	var size int64
	for _, p := range group {
		size += int64(len(p.line)) + 1
		p.line = nil
	}
	w.mu.Lock()
	w.backlog -= size
	w.mu.Unlock()
	for _, p := range group {
		close(p.done)
	}
}

func positiveOr[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}
