// Package secret reads named secrets: from Key Vault with a cache, or from a map for local
// work.
package secret

import (
	"context"
	"errors"
	"fmt"
)

// ErrNotFound says that the source has no secret with this name.
var ErrNotFound = errors.New("secret: there is no secret with this name")

// Source returns secrets by name. Safe for concurrent use.
type Source interface {
	// Get returns the value of a secret. The value may come from a cache.
	Get(ctx context.Context, name string) (string, error)
	// Refresh reads the value again and returns it. It is called when a credential was
	// refused.
	Refresh(ctx context.Context, name string) (string, error)
}

// Map is a Source with fixed values, for local work and tests.
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
