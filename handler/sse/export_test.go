package sse

// For the tests of the bound.
var ErrTooLong = errTooLong
