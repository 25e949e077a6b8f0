package quota

// Scopes counts the scopes a limiter remembers.
func Scopes(l *Limiter) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.scopes)
}
