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

// Options of a Limiter.
type Options struct {
	Store  table.Store // a store that does not repeat calls; see the package documentation
	Policy *policy.Policy
	Logger *slog.Logger // nil = nothing is logged
}

// Limiter enforces the limits of a policy. Safe for concurrent use.
type Limiter struct {
	store   table.Store
	policy  *policy.Policy
	log     *slog.Logger
	started time.Time // base of monotonic time measurement
	process string    // random part of the names of this process's writers

	writerNames atomic.Int64

	products      map[string]*compiledProduct
	counters      counters
	activeWriters activeWriters
}

const (
	maxCost = int64(1) << 50 // the largest cost, in tokens or millionths of the currency; keeps every sum far from overflow
	idBytes = 6              // length of Limiter.process in bytes
	base36  = 36
)

// New returns a Limiter. It does not use the store before the first request of a product
// with limits.
func New(o Options) *Limiter {
	random := make([]byte, idBytes)
	_, _ = rand.Read(random) // cannot fail
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

// Cost is what a request may use, as far as that is known before it is sent. The output
// parts are for limits on cost, because output has a price of its own; 0 = all tokens may
// be output.
type Cost struct {
	Estimate       int64 // tokens that soft limits hold
	Bound          int64 // tokens that no answer can exceed; hard limits hold them
	EstimateOutput int64 // the part of Estimate that is output
	BoundOutput    int64 // the part of Bound that is output
}

// Reserve holds the cost of one request in every limit of the caller's product. If a limit
// refuses the request, nothing is held and the error is the *gateway.Error for the client.
// The caller must defer Release. A product without limits needs no store.
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

// fits refuses a request that exceeds the whole amount of a hard limit, or that has no
// price although a limit counts cost.
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

// Close gives all leases back. It returns when they and all settlements have reached the
// store or were given up, or with an error when ctx ends. The Limiter can still be used.
func (l *Limiter) Close(ctx context.Context) error {
	l.counters.each((*counter).flush)
	if err := l.activeWriters.wait(ctx); err != nil {
		return fmt.Errorf("quota: not all settlements and leases were written to the table: %w", err)
	}
	return nil
}

// now returns the store's time: this process's monotonic time plus its offset from the
// store's clock.
func (l *Limiter) now() time.Time {
	return l.started.Add(time.Since(l.started)).Add(l.store.Offset())
}

// newWriterName returns a name that no other writer has. The process's name alone is not
// unique: two counters of one key can work in one process after the first was removed from
// memory.
func (l *Limiter) newWriterName() string {
	return l.process + "-" + strconv.FormatInt(l.writerNames.Add(1), base36)
}
