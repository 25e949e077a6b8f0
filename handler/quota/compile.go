package quota

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/table"
)

// scopePlan is one `by` of a product, with the limits that count by it.
type compiledCounter struct {
	product    string
	by         policy.By
	limits     []policy.Limit // that count in windows
	concurrent []policy.Limit
}

func (p *compiledCounter) hard() bool {
	return slices.ContainsFunc(p.all(), func(l policy.Limit) bool { return l.Hard })
}

func (p *compiledCounter) all() []policy.Limit {
	return slices.Concat(p.limits, p.concurrent)
}

// productPlan is a product made ready for its requests.
type compiledProduct struct {
	policy.Product
	counters  []*compiledCounter // in the order in which all instances reserve them
	hardSlots bool               // one of its limits is concurrent and hard
}

// plan groups a product's limits into scopes.
func compile(p policy.Product) *compiledProduct {
	out := &compiledProduct{Product: p}
	for _, by := range []policy.By{policy.ByIP, policy.ByUser, policy.BySubscription, policy.ByModel, policy.ByProduct} {
		counter := &compiledCounter{product: p.Name, by: by}
		for _, l := range p.Limits {
			switch {
			case l.By != by:
			case l.Unit == policy.Concurrent:
				counter.concurrent = append(counter.concurrent, l)
				out.hardSlots = out.hardSlots || l.Hard
			default:
				counter.limits = append(counter.limits, l)
			}
		}
		if counter.limits != nil || counter.concurrent != nil {
			out.counters = append(out.counters, counter)
		}
	}
	return out
}

// value is what the scope counts by, for one request. Callers without a user share one
// counter per subscription, callers without a subscription have one each.
func (p *compiledCounter) counterKey(c gateway.Caller, model string) (string, error) {
	switch p.by {
	case policy.ByIP:
		if c.IP == "" {
			return "", gateway.CallerIpNotAllowed.
				New("The gateway does not know the caller's address, and the product %s has a limit by address.", p.product).
				WithLimit(p.all()[0].Name)
		}
		return c.IP, nil
	case policy.ByUser:
		if c.User == "" {
			return "subscription:" + c.Subscription, nil
		}
		return c.User, nil
	case policy.BySubscription:
		if c.Subscription == "" {
			return "user:" + c.User, nil
		}
		return c.Subscription, nil
	case policy.ByModel:
		return strings.ToLower(model), nil // Azure does not tell deployments apart by case
	case policy.ByProduct:
	}
	return "", nil
}

const plainKey = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:@|"

// keyOf makes an entity's key that a person can read; what a key may not hold becomes
// =HH, and what is too long ends in a hash.
func entityKey(product string, by policy.By, value string) table.Key {
	var b strings.Builder
	for _, c := range []byte(product + "|" + string(by) + "|" + value) {
		if strings.IndexByte(plainKey, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	key := b.String()
	if len(key) > 400 {
		sum := sha256.Sum256([]byte(key))
		key = key[:300] + "=" + hex.EncodeToString(sum[:])
	}
	return table.Key{Partition: key, Row: "quota"}
}
