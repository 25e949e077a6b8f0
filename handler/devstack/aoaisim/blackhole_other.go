//go:build !linux

package aoaisim

import "errors"

// BlackHole needs Linux, whose full queues answer no connection request.
func BlackHole() (address string, end func(), err error) {
	return "", nil, errors.New("aoaisim: a black hole needs Linux")
}
