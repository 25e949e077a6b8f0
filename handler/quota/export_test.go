package quota

// Scopes counts the scopes a limiter remembers.
func Scopes(l *Limiter) (n int) {
	l.scopes.each(func(*scope) { n++ })
	return n
}

// Stamps says where a reservation's first scope was charged: for fixed windows, when they
// began. It is nil while the table knows nothing of it.
func Stamps(r *Reservation) []int64 {
	p := r.parts[0]
	p.scope.mu.Lock()
	defer p.scope.mu.Unlock()
	return p.hold.stamps
}
