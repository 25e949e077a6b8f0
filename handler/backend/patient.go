package backend

import (
	"context"
	"io"
	"time"
)

// patient is the body of an answer whose region may fall silent for a while, but not for
// good: after the commit point nobody else can answer, and somebody waits.
type patient struct {
	io.ReadCloser
	limit time.Duration
	timer *time.Timer // nil until the commit point, up to which the watch looks after it
}

// only bounds every silence from now on; past it the attempt is cancelled.
func (p *patient) only(limit time.Duration, cancel context.CancelCauseFunc) {
	p.limit, p.timer = limit, time.AfterFunc(limit, func() { cancel(errSilent) })
	p.timer.Stop()
}

func (p *patient) Read(b []byte) (int, error) {
	if p.timer == nil {
		return p.ReadCloser.Read(b)
	}
	p.timer.Reset(p.limit)
	defer p.timer.Stop()
	return p.ReadCloser.Read(b)
}
