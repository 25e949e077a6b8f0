package proxy

import (
	"sync"
	"sync/atomic"
)

// outputs knows how long each model's answers were of late: what a soft limit holds for
// the next one. Models are the pool's, so that it stays small.
type outputs struct {
	byModel sync.Map // string → *atomic.Int64, a moving mean times scale
}

const (
	usualOutput = 256 // before the first answer
	scale       = 16  // keeps the mean's fraction
	memory      = 8   // answers the mean looks back, about
)

func (o *outputs) of(model string) int64 {
	if mean, ok := o.byModel.Load(model); ok {
		return (mean.(*atomic.Int64).Load() + scale - 1) / scale
	}
	return usualOutput
}

// note takes one answer in. Of two that come at once one may be forgotten: it is a mean.
func (o *outputs) note(model string, tokens int64) {
	mean, known := o.byModel.Load(model)
	if !known {
		mean, _ = o.byModel.LoadOrStore(model, new(atomic.Int64))
		mean.(*atomic.Int64).Store(tokens * scale)
		return
	}
	m := mean.(*atomic.Int64)
	old := m.Load()
	m.CompareAndSwap(old, old+(tokens*scale-old)/memory)
}
