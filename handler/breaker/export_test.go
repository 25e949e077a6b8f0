package breaker

// MaxOpen is the longest time a breaker stays open without a new reason.
const MaxOpen = maxOpen
