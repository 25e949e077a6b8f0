package journal

import "context"

// Pending is a line that was appended and may not be durable yet.
type Pending struct {
	line    []byte // nil once durable
	id      string // of the request that the line begins or ends, if it does
	ends    bool
	done    chan struct{}
	stopped <-chan struct{}
	wakeUp  func() // makes the committer start as soon as it may
}

func (p *Pending) size() int64 { return int64(len(p.line)) + 1 }

// Done is closed when the line is durable, and never otherwise.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait returns nil once the line is durable. An error only says that it is not known to be durable yet. A line with a
// waiter is committed at once if the last commit is an Interval ago; other lines wait up to an Interval for more.
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
