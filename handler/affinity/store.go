// Package affinity remembers which region keeps a stored object, so that every instance
// asks for it there, and which subscription owns it, so that no other gets it.
//
// Each id has one row. The partition is the first byte of the id's SHA-256 and the row key
// is the whole of it, because regions choose ids and Table Storage restricts keys. The
// properties are {version, id, region, subscription, until}. A row never changes. Misses
// are not cached, because another instance may be about to write the row.
package affinity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

// ErrNotFound says that the subscription has no such object: it never existed, another
// subscription owns it, or its lifetime is over.
var ErrNotFound = errors.New("affinity: no such object of this subscription")

// Options of a Store. A zero value means the default.
type Options struct {
	Table        table.Store
	Lifetime     time.Duration // how long an object is known; default 31 days: the service keeps responses for 30
	WriteTimeout time.Duration // how long Remember tries; default 15 s
	ReadTimeout  time.Duration // how long Find tries; default 2 s
	CacheSize    int           // rows kept in memory; default 10,000
}

func (o Options) withDefaults() Options {
	o.Lifetime = cmp.Or(o.Lifetime, 31*24*time.Hour)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 15*time.Second)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 2*time.Second)
	o.CacheSize = cmp.Or(o.CacheSize, 10_000)
	return o
}

// Store knows the owners of objects. Safe for concurrent use.
type Store struct {
	options Options
	cache   *lru.Cache[string, owner] // by row key
}

// New returns a Store. It does not touch the table yet.
func New(o Options) *Store {
	o = o.withDefaults()
	cache, _ := lru.New[string, owner](o.CacheSize) // fails only for sizes below 1
	return &Store{options: o, cache: cache}
}

func (s *Store) now() time.Time { return time.Now().Add(s.options.Table.Offset()) }

// Find returns the region that keeps the subscription's object, or ErrNotFound. If the
// table cannot be read the error is a *gateway.Error: an unknown object is not a missing one.
func (s *Store) Find(ctx context.Context, subscription, id string) (region string, err error) {
	k := key(id)
	known, ok := s.cache.Get(k.Row)
	if !ok {
		if known, err = s.read(ctx, k); err != nil {
			return "", findError(err)
		}
		s.cache.Add(k.Row, known)
	}
	if known.subscription != subscription || s.now().After(known.until) {
		return "", ErrNotFound
	}
	return known.region, nil
}

func findError(err error) error {
	if errors.Is(err, table.ErrNotFound) {
		return ErrNotFound
	}
	if _, newer := errors.AsType[*gateway.VersionError](err); newer {
		return err
	}
	return gateway.StorageUnavailable.New(
		"The gateway cannot look up now which region keeps the object that the request refers to. Try again.",
	).WithRetry(time.Second).WithCause(err)
}

func (s *Store) read(ctx context.Context, k table.Key) (owner, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.ReadTimeout)
	defer cancel()
	e, err := s.options.Table.Get(ctx, k)
	if err != nil {
		return owner{}, err
	}
	return decode(e)
}

// Remember makes it durable that the region keeps the subscription's object. It repeats
// the write until WriteTimeout is over.
func (s *Store) Remember(ctx context.Context, subscription, id, region string) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.WriteTimeout)
	defer cancel()
	made := owner{region, subscription, s.now().Add(s.options.Lifetime)}
	e := made.encode(id)
	for pauses := (backoff.Backoff{First: 50 * time.Millisecond, Max: time.Second}); ; {
		_, err := s.options.Table.Insert(ctx, e)
		if errors.Is(err, table.ErrExists) {
			return s.checkExisting(ctx, e.Key, made)
		}
		if err == nil {
			s.cache.Add(e.Row, made)
			return nil
		}
		if !pauses.Wait(ctx) {
			return rememberError(err)
		}
	}
}

// checkExisting accepts a row that an earlier attempt of ours has written without getting
// the answer.
func (s *Store) checkExisting(ctx context.Context, k table.Key, made owner) error {
	known, err := s.read(ctx, k)
	switch {
	case err != nil:
		return rememberError(err)
	case known.region != made.region || known.subscription != made.subscription:
		return fmt.Errorf("affinity: regions %s and %s gave out the same object id, or two subscriptions own it", known.region, made.region)
	}
	s.cache.Add(k.Row, known)
	return nil
}

func rememberError(err error) error {
	return gateway.StorageUnavailable.New(
		"The gateway could not record which region keeps this answer, so it is withheld. Try again, or send \"store\": false.",
	).WithCause(err)
}

// formatVersion is the version of the rows that this program writes, and the newest that
// it reads.
const formatVersion = 1

// owner is one row.
type owner struct {
	region, subscription string
	until                time.Time // by the table's clock
}

func key(id string) table.Key {
	sum := sha256.Sum256([]byte(id))
	return table.Key{Partition: hex.EncodeToString(sum[:1]), Row: hex.EncodeToString(sum[:])}
}

func (o owner) encode(id string) table.Entity {
	return table.Entity{Key: key(id), Props: map[string]any{
		"version": int64(formatVersion), "id": id, "region": o.region, "subscription": o.subscription, "until": o.until,
	}}
}

func decode(e table.Entity) (o owner, err error) {
	where := "affinity: row " + e.Row
	version, _ := e.Props["version"].(int64)
	if err := gateway.CheckVersion(where, int(version), formatVersion); err != nil {
		return o, err
	}
	var ok [3]bool
	o.region, ok[0] = e.Props["region"].(string)
	o.subscription, ok[1] = e.Props["subscription"].(string)
	o.until, ok[2] = e.Props["until"].(time.Time)
	if ok != [3]bool{true, true, true} {
		return o, fmt.Errorf("%s lacks a region, a subscription or a time: it was not written by this program", where)
	}
	return o, nil
}
