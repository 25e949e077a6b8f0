// Package admin is the management API under /manage/api, and the functions that it offers.
package admin

import (
	"context"
	"log/slog"
	"strings"

	"aoaigateway/handler/auth"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/usage"
)

// Created is a subscription with newly made keys. The keys are not shown again.
type Created struct {
	auth.Subscription
	auth.Keys
}

// NewSubscription has the properties of a subscription that is to be created. Keys that are
// empty are generated.
type NewSubscription struct {
	ID        string `json:"id,omitempty"`
	Name      string `json:"name,omitempty"`
	Product   string `json:"product"`
	Primary   string `json:"primaryKey,omitempty"`
	Secondary string `json:"secondaryKey,omitempty"`
}

// Manager implements the functions of the management API and of the command line, with
// storage.
type Manager struct {
	Subscriptions *auth.Subscriptions
	Policy        *policy.Policy
	Counts        *usage.Store
	OnChange      func() // called after every change; nil = not called
	Logger        *slog.Logger
}

// Create creates a subscription. Its product must be in the policy.
func (m *Manager) Create(ctx context.Context, n NewSubscription) (Created, error) {
	if _, ok := m.Policy.Product(n.Product); !ok {
		var names []string
		for _, p := range m.Policy.Products() {
			names = append(names, p.Name)
		}
		return Created{}, gateway.InvalidProduct.New("There is no product %q. The policy has: %s.", n.Product, strings.Join(names, ", "))
	}
	sub := auth.Subscription{ID: n.ID, Name: n.Name, Product: n.Product}
	sub, keys, err := m.Subscriptions.Create(ctx, sub, auth.Keys{Primary: n.Primary, Secondary: n.Secondary})
	if err != nil {
		return Created{}, err
	}
	m.recordChange("created", sub)
	return Created{sub, keys}, nil
}

// List returns all subscriptions, sorted by id.
func (m *Manager) List(ctx context.Context) ([]auth.Subscription, error) {
	return m.Subscriptions.List(ctx)
}

// Show returns the subscription with the given id.
func (m *Manager) Show(ctx context.Context, id string) (auth.Subscription, error) {
	return m.Subscriptions.Get(ctx, id)
}

// Rotate replaces the primary or the secondary key of a subscription and returns the new
// key.
func (m *Manager) Rotate(ctx context.Context, id, slot string) (Created, error) {
	sub, keys, err := m.Subscriptions.Rotate(ctx, id, slot)
	if err != nil {
		return Created{}, err
	}
	m.recordChange("rotated "+slot+" key", sub)
	return Created{sub, keys}, nil
}

// SetState suspends, resumes or cancels a subscription.
func (m *Manager) SetState(ctx context.Context, id string, state auth.State) (auth.Subscription, error) {
	sub, err := m.Subscriptions.SetState(ctx, id, state)
	if err != nil {
		return sub, err
	}
	m.recordChange(string(state), sub)
	return sub, nil
}

func (m *Manager) recordChange(what string, sub auth.Subscription) {
	if m.OnChange != nil {
		m.OnChange()
	}
	m.Logger.Info("subscription changed", "subscription", sub.ID, "product", sub.Product, "change", what)
}
