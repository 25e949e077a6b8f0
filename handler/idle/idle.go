// Package idle ends a transfer that makes no progress. The total time of a transfer is
// not limited here: a long answer or a large body may take as long as it keeps moving.
package idle

import (
	"io"
	"time"
)

// Reader limits the duration of each single Read. Time that the caller spends between
// two reads does not count. The limit starts with SetLimit; before it Reads are unlimited.
type Reader struct {
	io.ReadCloser

	limit time.Duration
	timer *time.Timer // nil until SetLimit
}

// NewReader returns a Reader over r that has no limit yet.
func NewReader(r io.ReadCloser) *Reader { return &Reader{ReadCloser: r} }

// SetLimit has every later Read that takes longer than limit call abort, once and on
// another goroutine. abort must make the blocked Read return, for example by cancelling
// the context of its request. SetLimit must not run during a Read.
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

// Deadline is the read or write deadline of a connection that progress moves forward.
type Deadline struct {
	set   func(time.Time) error
	limit time.Duration
	renew time.Time
}

// NewDeadline returns a Deadline that set applies to a connection. Nothing is set until
// the first Extend.
func NewDeadline(limit time.Duration, set func(time.Time) error) Deadline {
	return Deadline{set: set, limit: limit}
}

// Extend gives the connection another limit from now on. It is called before every read
// or write, but acts at most once in an eighth of the limit, because setting a deadline
// costs as much as a small write.
func (d *Deadline) Extend() {
	now := time.Now()
	if !now.After(d.renew) {
		return
	}
	_ = d.set(now.Add(d.limit)) // a connection without deadlines is one of a test
	d.renew = now.Add(d.limit / 8)
}

// Clear removes the deadline.
func (d *Deadline) Clear() {
	_ = d.set(time.Time{})
	d.renew = time.Time{}
}
