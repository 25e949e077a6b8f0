package affinity

import "context"

// Pending is a call of Remember that runs in the background.
type Pending struct {
	done chan struct{} // closed when err is set
	err  error
}

// Begin starts Remember in the background. It continues when ctx ends.
func (s *Store) Begin(ctx context.Context, subscription, id, region string) *Pending {
	p := &Pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = s.Remember(context.WithoutCancel(ctx), subscription, id, region)
	}()
	return p
}

// Wait returns nil when the row is durable, or an error when Remember gave up. On a nil
// Pending it returns nil at once.
func (p *Pending) Wait() error {
	if p == nil {
		return nil
	}
	<-p.done
	return p.err
}
