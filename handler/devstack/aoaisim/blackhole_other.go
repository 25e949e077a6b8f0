//go:build !linux

package aoaisim

import "errors"

// BlackHole fails: it works only on Linux, which ignores SYN packets when a listener's
// queue is full.
func BlackHole() (address string, end func(), err error) {
	return "", nil, errors.New("aoaisim: a black hole needs Linux")
}
