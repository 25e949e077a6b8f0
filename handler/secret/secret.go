// Package secret hands out named secrets: from Key Vault with a cache, or from a fixed
// map for local work.
package secret

import (
	"context"
	"errors"
)

// ErrNotFound says that the source has no secret of that name.
var ErrNotFound = errors.New("secret: no such secret")

// Source looks secrets up by name. Safe for concurrent use.
type Source interface {
	// Get returns the current value, from memory when that is fresh enough.
	Get(ctx context.Context, name string) (string, error)
	// Refresh drops what is remembered under name and asks again: for a credential
	// that was just refused.
	Refresh(ctx context.Context, name string) (string, error)
}
