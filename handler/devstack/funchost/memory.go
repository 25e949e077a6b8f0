package funchost

import (
	"errors"
	"sync/atomic"
)

// memory counts what the bodies that are being read take of the host. The real host makes a
// string of UTF-16 of each body, by way of a builder, beside a buffer of the bytes: 80 MB of
// bodies at a time took 411 MiB. Its figure for one large body alone is twice that, because
// garbage is collected late while there is room; at the limit only what is in use counts.
type memory struct {
	limit  int64
	bodies atomic.Int64 // bytes of bodies that are being read
}

const perByte = 5387 // thousandths of a byte

var errOutOfMemory = errors.New("OutOfMemoryException")

// take counts bytes as they arrive.
func (m *memory) take(n int) error {
	if bytes := m.bodies.Add(int64(n)); bytes*perByte/1000 > m.limit {
		return errOutOfMemory
	}
	return nil
}

func (m *memory) release(n int) { m.bodies.Add(-int64(n)) }
