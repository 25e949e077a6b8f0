package quota

// Scopes counts the scopes a limiter remembers.
func Scopes(l *Limiter) (n int) {
	l.scopes.each(func(*scope) { n++ })
	return n
}

// Stamps says where a reservation's first scope was charged: for fixed windows, when they began.
func Stamps(r *Reservation) []int64 { return r.parts[0].hold.stamps }
