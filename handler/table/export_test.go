package table

// Expand is expand, for the external tests.
func Expand(s string) string { return expand(s) }
