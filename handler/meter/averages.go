package meter

import (
	"sync"
	"sync/atomic"
)

// Averages keeps the moving average of each model's output tokens: what a soft limit
// holds for the next answer. It stays small because the models are the pool's.
type Averages struct {
	byModel sync.Map // string → *atomic.Int64, the average times scale
}

const (
	usualOutput = 256 // before the first answer
	scale       = 16  // keeps the fraction of the average
	memory      = 8   // about how many answers the average looks back
)

// Of returns the average of a model, or a usual value before its first answer.
func (o *Averages) Of(model string) int64 {
	if average, ok := o.byModel.Load(model); ok {
		return (average.(*atomic.Int64).Load() + scale - 1) / scale
	}
	return usualOutput
}

// Observe adds one answer. Of two that come at once one may be lost.
func (o *Averages) Observe(model string, tokens int64) {
	average, known := o.byModel.Load(model)
	if !known {
		average, _ = o.byModel.LoadOrStore(model, new(atomic.Int64))
		average.(*atomic.Int64).Store(tokens * scale)
		return
	}
	a := average.(*atomic.Int64)
	old := a.Load()
	a.CompareAndSwap(old, old+(tokens*scale-old)/memory)
}
