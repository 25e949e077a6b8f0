package usage

import (
	"cmp"
	"strings"

	"aoaigateway/handler/gateway"
)

// Key has the properties of a request that usage is counted by.
type Key struct {
	Subscription string `json:"subscription,omitempty"`
	Product      string `json:"product,omitempty"`
	User         string `json:"user,omitempty"`
	Model        string `json:"model,omitempty"`
	Region       string `json:"region,omitempty"`
	Currency     string `json:"currency,omitempty"` // of Counts.Cost
}

func keyOf(rec *gateway.Record) Key {
	k := Key{
		Subscription: rec.Subscription, Product: rec.Product, User: cmp.Or(rec.User, rec.EndUser),
		Model: rec.Model, Region: rec.Region,
	}
	if rec.Cost != nil {
		k.Currency = rec.Cost.Currency
	}
	return k
}

// keyFields are the names that a query may group by, each with its field.
var keyFields = map[string]func(*Key) *string{
	"subscription": func(k *Key) *string { return &k.Subscription },
	"product":      func(k *Key) *string { return &k.Product },
	"user":         func(k *Key) *string { return &k.User },
	"model":        func(k *Key) *string { return &k.Model },
	"region":       func(k *Key) *string { return &k.Region },
}

// Values returns the row's values for the names that it was grouped by.
func (r Row) Values(by []string) []string {
	values := make([]string, len(by))
	for i, name := range by {
		values[i] = *keyFields[strings.ToLower(name)](&r.Key)
	}
	return values
}

// restrict returns k with only the fields that are grouped by.
func restrict(k Key, by []string) Key {
	restricted := Key{Currency: k.Currency}
	for _, name := range by {
		field := keyFields[strings.ToLower(name)]
		*field(&restricted) = *field(&k)
	}
	return restricted
}
