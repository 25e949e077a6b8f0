// Package affinity remembers which region made a stored object, so that every instance
// asks for it there, and for whom, so that nobody else gets it.
//
// One row an id: partition the first byte of the id's SHA-256, row the whole of it (a
// region chooses its ids, Table Storage's key rules bind us), properties id, region,
// subscription and until. A row never changes. Misses are not remembered: the row may be
// about to be written by another instance.
package affinity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

// ErrNotFound says that the subscription has no such object: nobody has, somebody else
// has, or its time is over.
var ErrNotFound = errors.New("affinity: no such object of this subscription")

// Options of Owners.
type Options struct {
	Table        table.Store
	Lifetime     time.Duration // how long an object is known; default 31 days: the service keeps responses for 30
	WriteTimeout time.Duration // how long Remember tries; default 15 s
	ReadTimeout  time.Duration // how long Find tries; default 2 s
	CacheSize    int           // how many objects are kept in memory; default 10,000
}

func (o Options) withDefaults() Options {
	if o.Lifetime == 0 {
		o.Lifetime = 31 * 24 * time.Hour
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 15 * time.Second
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = 2 * time.Second
	}
	if o.CacheSize == 0 {
		o.CacheSize = 10_000
	}
	return o
}

// Owners knows the regions of objects. Safe for concurrent use.
type Store struct {
	options Options
	cache   cache
}

// New returns Owners over a store. It touches nothing yet.
func New(o Options) *Store {
	o = o.withDefaults()
	return &Store{options: o, cache: cache{size: o.CacheSize / 2}}
}

// owner is one row.
type owner struct {
	region, subscription string
	until                time.Time // by the store's clock
}

func key(id string) table.Key {
	sum := sha256.Sum256([]byte(id))
	return table.Key{Partition: hex.EncodeToString(sum[:1]), Row: hex.EncodeToString(sum[:])}
}

func (o *Store) now() time.Time { return time.Now().Add(o.options.Table.Offset()) }

// Find returns the region that keeps the subscription's object, or ErrNotFound. When the
// store cannot be asked the error is a *gateway.Error: what is not known is not missing.
func (o *Store) Find(ctx context.Context, subscription, id string) (region string, err error) {
	k := key(id)
	known, ok := o.cache.get(k.Row)
	if !ok {
		known, err = o.read(ctx, k)
		switch {
		case errors.Is(err, table.ErrNotFound):
			return "", ErrNotFound
		case err != nil:
			return "", gateway.StorageUnavailable.New("The gateway cannot look up now which region keeps the object that the request refers to. Try again.").WithRetry(time.Second).WithCause(err)
		}
		o.cache.put(k.Row, known)
	}
	if known.subscription != subscription || o.now().After(known.until) {
		return "", ErrNotFound
	}
	return known.region, nil
}

func (o *Store) read(ctx context.Context, k table.Key) (owner, error) {
	ctx, cancel := context.WithTimeout(ctx, o.options.ReadTimeout)
	defer cancel()
	e, err := o.options.Table.Get(ctx, k)
	if err != nil {
		return owner{}, err
	}
	return parse(e)
}

func parse(e table.Entity) (known owner, err error) {
	var ok [3]bool
	known.region, ok[0] = e.Props["region"].(string)
	known.subscription, ok[1] = e.Props["subscription"].(string)
	known.until, ok[2] = e.Props["until"].(time.Time)
	if ok != [3]bool{true, true, true} {
		return known, fmt.Errorf("affinity: row %s is not one of ours", e.Row)
	}
	return known, nil
}

// Remember makes it durable that the region made the subscription's object. Storage is
// tried again until Wait is over.
func (o *Store) Remember(ctx context.Context, subscription, id, region string) error {
	ctx, cancel := context.WithTimeout(ctx, o.options.WriteTimeout)
	defer cancel()
	made := owner{region, subscription, o.now().Add(o.options.Lifetime)}
	e := table.Entity{Key: key(id), Props: map[string]any{
		"id": id, "region": region, "subscription": subscription, "until": made.until,
	}}
	for pauses := (backoff.Backoff{First: 50 * time.Millisecond, Max: time.Second}); ; {
		_, err := o.options.Table.Insert(ctx, e)
		if errors.Is(err, table.ErrExists) {
			return o.checkExisting(ctx, e.Key, made)
		}
		if err == nil {
			o.cache.put(e.Row, made)
			return nil
		}
		if !pauses.Wait(ctx) {
			return gateway.StorageUnavailable.New("The gateway could not record which region keeps this answer, so it is withheld; try again, or send \"store\": false.").WithCause(err)
		}
	}
}

// same is content with a row that an earlier try of ours has written, its answer lost.
func (o *Store) checkExisting(ctx context.Context, k table.Key, made owner) error {
	known, err := o.read(ctx, k)
	switch {
	case err != nil:
		return gateway.StorageUnavailable.New("The gateway could not record which region keeps this answer, so it is withheld; try again.").WithCause(err)
	case known.region != made.region || known.subscription != made.subscription:
		return fmt.Errorf("affinity: two regions gave out one id: %s and %s", known.region, made.region)
	}
	o.cache.put(k.Row, known)
	return nil
}
