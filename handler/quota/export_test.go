package quota

// Scopes counts the scopes a limiter remembers.
func CounterCount(l *Limiter) (n int) {
	l.counters.each(func(*counter) { n++ })
	return n
}

// Stamps says where a reservation's first scope was charged: for fixed windows, when they
// began. It is nil while the table knows nothing of it.
func WindowIDs(r *Reservation) []int64 {
	p := r.holds[0]
	p.counter.mu.Lock()
	defer p.counter.mu.Unlock()
	return p.hold.windowIDs
}
