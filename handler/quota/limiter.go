package quota

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/table"
)

// Options are what a Limiter works with.
type Options struct {
	Store  table.Store // must not retry; see the package comment
	Policy *policy.Policy
	Logger *slog.Logger // nil = silent
}

// Limiter keeps the limits of a policy. Safe for concurrent use.
type Limiter struct {
	store   table.Store
	policy  *policy.Policy
	log     *slog.Logger
	started time.Time // its monotonic reading carries our time on
	process string    // makes write ids unique
	ids     atomic.Int64

	writers writers

	mu     sync.Mutex // taken before a scope's
	scopes map[table.Key]*scope
}

const (
	manyScopes = 4096           // from here on, idle scopes are forgotten
	idleAfter  = time.Minute    // a forgotten scope costs one read when it comes back
	maxCost    = int64(1) << 50 // tokens; keeps every sum far from overflow
	idBytes    = 6              // of a write id's random part; the rest counts
	base36     = 36
)

// New returns a Limiter; it touches the store only when a limit has to be asked.
func New(o Options) *Limiter {
	random := make([]byte, idBytes)
	_, _ = rand.Read(random) // never fails
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Limiter{
		store: o.Store, policy: o.Policy, log: o.Logger,
		started: time.Now(), process: hex.EncodeToString(random), scopes: map[table.Key]*scope{},
	}
}

// Cost is what a request may use, as far as it is known before it is sent.
type Cost struct {
	Estimate int64 // tokens a soft limit holds
	Bound    int64 // tokens no answer can exceed: what a hard limit holds
}

// Reserve holds the cost of one request in every limit of the caller's product that
// applies, or returns the *gateway.Error that refuses it and holds nothing. The caller
// defers Cancel. A product without limits costs no store operation.
func (l *Limiter) Reserve(ctx context.Context, c gateway.Caller, model string, cost Cost) (*Reservation, error) {
	product, ok := l.policy.Product(c.Product)
	if !ok {
		return nil, &gateway.Error{
			Kind: gateway.Forbidden, Message: fmt.Sprintf("The subscription's product %q is not in the gateway's policy.", c.Product),
		}
	}
	cost.Estimate = min(max(cost.Estimate, 0), maxCost)
	cost.Bound = min(max(cost.Bound, cost.Estimate), maxCost)
	for _, limit := range product.Limits {
		if limit.Hard && limit.Unit == policy.Tokens && cost.Bound > limit.Amount {
			return nil, neverFits(limit, cost.Bound)
		}
	}
	r := &Reservation{cost: cost}
	for _, p := range plan(product) {
		value, err := p.value(c, model)
		if err != nil {
			return nil, err
		}
		r.parts = append(r.parts, part{scope: l.scope(keyOf(p.product, p.by, value), p.limits)})
	}
	if err := r.take(ctx, 1); err != nil {
		return nil, err
	}
	return r, nil
}

// amounts is what an attempt holds in each limit. A soft limit never holds more than it
// has when full, or a long prompt could never pass.
func amounts(limits []policy.Limit, cost Cost, requests int64) []int64 {
	out := make([]int64, len(limits))
	for i, l := range limits {
		switch {
		case l.Unit == policy.Requests:
			out[i] = requests
		case l.Hard:
			out[i] = cost.Bound
		default:
			out[i] = min(cost.Estimate, l.Amount)
		}
	}
	return out
}

// Close waits until all settlements have reached the store, or were given up, or ctx ends.
func (l *Limiter) Close(ctx context.Context) error {
	if err := l.writers.wait(ctx); err != nil {
		return fmt.Errorf("quota: settlements not yet stored: %w", err)
	}
	return nil
}

// now is the store's time: its offset from ours, and ours carried on by the monotonic clock.
func (l *Limiter) now() time.Time {
	return l.started.Add(time.Since(l.started)).Add(l.store.Offset())
}

func (l *Limiter) nextID() string {
	return l.process + "-" + strconv.FormatInt(l.ids.Add(1), base36)
}

func (l *Limiter) scope(key table.Key, limits []policy.Limit) *scope {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.scopes[key]
	if !ok {
		if len(l.scopes) >= manyScopes {
			l.forgetIdle()
		}
		s = &scope{limiter: l, key: key, limits: limits, used: time.Now()}
		for _, limit := range limits {
			s.hard = s.hard || limit.Hard
		}
		l.scopes[key] = s
	}
	return s
}

// forgetIdle is called with mu held. Reservations may go on using a forgotten scope:
// two scopes of one key are as two instances are.
func (l *Limiter) forgetIdle() {
	for key, s := range l.scopes {
		s.mu.Lock()
		if !s.running && time.Since(s.used) > idleAfter {
			delete(l.scopes, key)
		}
		s.mu.Unlock()
	}
}
