package journal

import "context"

// Pending is a line that was appended to the journal and may not be durable yet.
type Pending struct {
	line    []byte // nil after the line is durable
	id      string // id of the request that the line begins or ends; empty = none
	ends    bool
	done    chan struct{}
	stopped <-chan struct{}
	wakeUp  func() // makes the committer start a commit as soon as it may
}

func (p *Pending) size() int64 { return int64(len(p.line)) + 1 }

// Done returns a channel that is closed when the line is durable. If the line never becomes
// durable, the channel stays open.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait returns nil when the line is durable. If ctx ends first it returns an error; the
// line may still become durable later. A line that somebody waits for is committed at once
// if the last commit began at least an Interval ago. Other lines wait up to an Interval for
// more lines.
func (p *Pending) Wait(ctx context.Context) error {
	if p.isDone() {
		return nil
	}
	p.wakeUp()
	select {
	case <-p.done:
		return nil
	case <-p.stopped:
	case <-ctx.Done():
	}
	if p.isDone() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return ErrClosed
}

func (p *Pending) isDone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
