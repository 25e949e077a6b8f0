package affinity

import "context"

// Pending is a Remember that runs in the background.
type Pending struct {
	done chan struct{} // closed when err is final
	err  error
}

// Begin starts Remember. The end of ctx does not stop it.
func (s *Store) Begin(ctx context.Context, subscription, id, region string) *Pending {
	p := &Pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = s.Remember(context.WithoutCancel(ctx), subscription, id, region)
	}()
	return p
}

// Wait returns when the row is durable or its writing was given up. A nil Pending is done.
func (p *Pending) Wait() error {
	if p == nil {
		return nil
	}
	<-p.done
	return p.err
}
