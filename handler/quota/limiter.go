package quota

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/table"
)

// Options are what a Limiter works with.
type Options struct {
	Store  table.Store // must not retry; see the package documentation
	Policy *policy.Policy
	Logger *slog.Logger // nil = silent
}

// Limiter keeps the limits of a policy. Safe for concurrent use.
type Limiter struct {
	store   table.Store
	policy  *policy.Policy
	log     *slog.Logger
	started time.Time // its monotonic reading measures the time since then
	process string    // random, so that the names of writers are unique

	writerNames atomic.Int64

	products      map[string]*compiledProduct
	counters      counters
	activeWriters activeWriters
}

const (
	maxCost = int64(1) << 50 // tokens, or millionths; keeps every sum far from overflow
	idBytes = 6              // of Limiter.process
	base36  = 36
)

// New returns a Limiter. It does not touch the store before the first request with a limit.
func New(o Options) *Limiter {
	random := make([]byte, idBytes)
	_, _ = rand.Read(random) // never fails
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Limiter{
		store: o.Store, policy: o.Policy, log: o.Logger,
		started: time.Now(), process: hex.EncodeToString(random), products: map[string]*compiledProduct{},
	}
	for _, p := range o.Policy.Products() {
		l.products[p.Name] = compile(p)
	}
	return l
}

// Cost is what a request may use, as far as it is known before the request is sent. The
// output parts are for limits on cost, because output has its own price; 0 = all of it
// may be output.
type Cost struct {
	Estimate       int64 // tokens that soft limits hold
	Bound          int64 // tokens that no answer can exceed; hard limits hold them
	EstimateOutput int64 // of Estimate
	BoundOutput    int64 // of Bound
}

// Reserve holds the cost of one request in every limit of the caller's product. If one of
// them refuses, it holds nothing and returns the *gateway.Error for the client. The caller
// defers Release. A product without limits costs no store operation.
func (l *Limiter) Reserve(ctx context.Context, c gateway.Caller, model string, cost Cost) (*Reservation, error) {
	product, ok := l.products[c.Product]
	if !ok {
		return nil, gateway.ProductNotFound.Because(nil)
	}
	cost.Estimate = min(max(cost.Estimate, 0), maxCost)
	cost.Bound = min(max(cost.Bound, cost.Estimate), maxCost)
	r := &Reservation{cost: cost}
	r.model, _ = l.policy.Model(model)
	if err := fits(product, model, r); err != nil {
		return nil, err
	}
	for _, p := range product.counters {
		value, err := p.counterKey(c, model)
		if err != nil {
			return nil, err
		}
		r.holds = append(r.holds, counterHold{counter: l.counters.get(l, p, value)})
	}
	if product.hardSlots {
		r.done = make(chan struct{})
	}
	if err := r.reserve(ctx, 1); err != nil {
		return nil, err
	}
	return r, nil
}

// fits refuses a request that a hard limit could never admit, or that has no price.
func fits(product *compiledProduct, model string, r *Reservation) error {
	for _, limit := range product.Limits {
		switch {
		case limit.Unit == policy.Cost && !r.model.Priced && r.cost.Bound > 0:
			return unpriced(limit, model)
		case limit.Hard && limit.Unit != policy.Concurrent && r.amount(limit, 1) > limit.Amount:
			return neverFits(limit, r.amount(limit, 1))
		}
	}
	return nil
}

// Close returns all leases. It waits until they and all settlements have reached the
// store, were given up, or ctx ends. The limiter stays usable.
func (l *Limiter) Close(ctx context.Context) error {
	l.counters.each((*counter).flush)
	if err := l.activeWriters.wait(ctx); err != nil {
		return fmt.Errorf("quota: some settlements are not stored yet: %w", err)
	}
	return nil
}

// now is the store's time: this process's monotonic time plus the store's offset.
func (l *Limiter) now() time.Time {
	return l.started.Add(time.Since(l.started)).Add(l.store.Offset())
}

// newWriterName returns a name that no other writer has. The process's name is not enough:
// when a counter was forgotten, two counters of one key may work in one process.
func (l *Limiter) newWriterName() string {
	return l.process + "-" + strconv.FormatInt(l.writerNames.Add(1), base36)
}
