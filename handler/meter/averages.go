package meter

import (
	"sync"
	"sync/atomic"
)

// Averages keeps the moving average of each model's output tokens. Soft limits hold this
// average for an answer until its usage is known. It needs no bound, because it has only
// models of the pool.
type Averages struct {
	byModel sync.Map // string → *atomic.Int64: the average, multiplied by scale
}

const (
	usualOutput = 256 // tokens, used before a model's first answer
	scale       = 16  // keeps the fraction of the average
	memory      = 8   // the weight of a new answer is 1/memory
)

// Of returns the average output tokens of a model, or usualOutput before the model's first
// answer.
func (o *Averages) Of(model string) int64 {
	if average, ok := o.byModel.Load(model); ok {
		return (average.(*atomic.Int64).Load() + scale - 1) / scale
	}
	return usualOutput
}

// Observe adds the output tokens of one answer. When two goroutines call it at once, one of
// the answers may be lost.
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
