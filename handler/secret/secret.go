// Package secret reads named secrets: from Key Vault through a cache, or from a fixed map
// for local work.
package secret

import (
	"context"
	"errors"
	"fmt"
)

// ErrNotFound reports that the source has no secret of that name.
var ErrNotFound = errors.New("secret: no such secret")

// Source looks secrets up by name. Safe for concurrent use.
type Source interface {
	// Get returns the value, from the cache if it is fresh enough.
	Get(ctx context.Context, name string) (string, error)
	// Refresh reads the value again, for a credential that was just refused.
	Refresh(ctx context.Context, name string) (string, error)
}

// Map is a fixed Source for local work and tests.
type Map map[string]string

// Get implements Source.
func (m Map) Get(_ context.Context, name string) (string, error) {
	v, ok := m[name]
	if !ok {
		return "", fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return v, nil
}

// Refresh implements Source.
func (m Map) Refresh(ctx context.Context, name string) (string, error) { return m.Get(ctx, name) }
