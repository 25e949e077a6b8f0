package backend

import (
	"math/rand/v2"
	"slices"

	"aoaigateway/handler/breaker"
)

// pick takes leave for one attempt at the best untried target: the lowest priority that
// has an open one, there by weight. Targets that are about to refuse for load are passed
// by, whatever their priority, while any other is open.
func pick(list []target, tried map[string]bool, need int64) (target, breaker.Pass, bool) {
	for _, roomy := range []bool{true, false} {
		rest := list
		for len(rest) > 0 {
			n := 1
			for n < len(rest) && rest[n].route.Priority == rest[0].route.Priority {
				n++
			}
			for open := ready(rest[:n], tried, roomy, need); len(open) > 0; {
				i := weighted(open)
				if pass, ok := open[i].breaker.Allow(); ok {
					open[i].room.take(need)
					return open[i], pass, true
				}
				open = slices.Delete(open, i, i+1)
			}
			rest = rest[n:]
		}
	}
	return target{}, breaker.Pass{}, false
}

func ready(group []target, tried map[string]bool, roomy bool, need int64) []target {
	var open []target
	for _, t := range group {
		if !tried[t.Name] && t.breaker.Ready() && (!roomy || t.room.fits(need)) {
			open = append(open, t)
		}
	}
	return open
}

func weighted(open []target) int {
	sum := 0
	for _, t := range open {
		sum += max(1, t.route.Weight)
	}
	n := rand.IntN(sum) //nolint:gosec // sharing load needs no secret randomness
	for i, t := range open {
		if n -= max(1, t.route.Weight); n < 0 {
			return i
		}
	}
	return len(open) - 1
}
