package funchost

// The lengths that tests shorten.
const (
	DefaultIdle        = defaultIdle
	DefaultInitTimeout = defaultInitTimeout
	DefaultTimeout     = defaultTimeout
	DefaultMemory      = defaultMemory
)
