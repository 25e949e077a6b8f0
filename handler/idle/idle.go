// Package idle ends transfers that make no progress. It does not limit the total time of a
// transfer: a long answer or a large body may take as long as bytes keep arriving.
package idle

import (
	"io"
	"time"
)

// Reader limits how long each single Read may take. The time that the caller spends between
// two Reads does not count. There is no limit before SetLimit is called.
type Reader struct {
	io.ReadCloser

	limit time.Duration
	timer *time.Timer // nil before SetLimit
}

// NewReader returns a Reader of r without a limit.
func NewReader(r io.ReadCloser) *Reader { return &Reader{ReadCloser: r} }

// SetLimit makes every later Read call abort if it takes longer than limit. abort is called
// once, on another goroutine. It must make the blocked Read return, for example by
// cancelling the context of its request. SetLimit must not be called during a Read.
func (r *Reader) SetLimit(limit time.Duration, abort func()) {
	r.limit, r.timer = limit, time.AfterFunc(limit, abort)
	r.timer.Stop()
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.timer == nil {
		return r.ReadCloser.Read(p)
	}
	r.timer.Reset(r.limit)
	defer r.timer.Stop()
	return r.ReadCloser.Read(p)
}

// Deadline is a read or write deadline of a connection. Each read or write moves it to a
// later time.
type Deadline struct {
	set   func(time.Time) error
	limit time.Duration
	renew time.Time
}

// NewDeadline returns a Deadline that calls set to change the deadline of a connection. It
// does not call set before the first Extend.
func NewDeadline(limit time.Duration, set func(time.Time) error) Deadline {
	return Deadline{set: set, limit: limit}
}

// Extend sets the deadline to now plus the limit. It must be called before every read or
// write. It calls set at most once per eighth of the limit, because setting a deadline
// costs as much as a small write.
func (d *Deadline) Extend() {
	now := time.Now()
	if !now.After(d.renew) {
		return
	}
	_ = d.set(now.Add(d.limit)) // fails only for connections in tests, which have no deadlines
	d.renew = now.Add(d.limit / 8)
}

// Clear removes the deadline.
func (d *Deadline) Clear() {
	_ = d.set(time.Time{})
	d.renew = time.Time{}
}
