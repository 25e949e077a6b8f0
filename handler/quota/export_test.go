package quota

// CounterCount is how many counters a limiter remembers.
func CounterCount(l *Limiter) (n int) {
	l.counters.each(func(*counter) { n++ })
	return n
}

// WindowIDs are the windows that a reservation's first hold was charged to: for fixed windows,
// when they began. They are nil while the table does not have the hold.
func WindowIDs(r *Reservation) []int64 {
	p := r.holds[0]
	p.counter.mu.Lock()
	defer p.counter.mu.Unlock()
	return p.hold.windowIDs
}
