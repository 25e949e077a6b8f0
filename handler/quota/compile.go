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

// compiledCounter has the limits of a product that count by the same property of a request.
// These limits share one counter per value of the property.
type compiledCounter struct {
	product    string
	by         policy.By
	limits     []policy.Limit // limits that count in windows
	concurrent []policy.Limit
}

func (p *compiledCounter) hard() bool {
	return slices.ContainsFunc(p.all(), func(l policy.Limit) bool { return l.Hard })
}

func (p *compiledCounter) all() []policy.Limit {
	return slices.Concat(p.limits, p.concurrent)
}

// compiledProduct is a product's limits in the form that Reserve needs.
type compiledProduct struct {
	policy.Product
	counters  []*compiledCounter // in the order in which every instance makes its holds
	hardSlots bool               // at least one of its limits on concurrent requests is hard
}

// compile groups a product's limits into counters.
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

// counterKey returns the value that the limits count by, for one request. For limits by
// user, all callers without a user share one counter per subscription. A caller without a
// subscription has a counter of its own.
func (p *compiledCounter) counterKey(c gateway.Caller, model string) (string, error) {
	switch p.by {
	case policy.ByIP:
		if c.IP == "" {
			return "", gateway.CallerIPNotAllowed.
				New("The product %s has a limit by IP address, but the gateway does not know the caller's address.", p.product).
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
		return strings.ToLower(model), nil // Azure ignores the case of deployment names
	case policy.ByProduct:
	}
	return "", nil
}

const plainKey = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:@|"

// entityKey builds a readable key of the table. Bytes that keys may not contain are written
// as =HH. A key that is too long is cut and ends in a hash.
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
