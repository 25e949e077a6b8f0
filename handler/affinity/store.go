// Package affinity records which region keeps a stored object and which subscription owns
// it. With this, every instance sends requests for the object to that region, and no other
// subscription can read it.
//
// Each id has one row. The partition is the first byte of the SHA-256 of the id, and the
// row key is the whole hash, because regions choose the ids and Table Storage restricts
// keys. The properties are {version, id, region, subscription, until}. A row never changes.
// The cache has no ids without a row, because another instance may be about to write the
// row.
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

// ErrNotFound says that the subscription owns no such object: it never existed, another
// subscription owns it, or its lifetime is over.
var ErrNotFound = errors.New("affinity: no such object of this subscription")

// Options of a Store. A zero value means the default.
type Options struct {
	Table        table.Store
	Lifetime     time.Duration // how long a row is valid; default 31 days, because the service keeps responses for 30 days
	WriteTimeout time.Duration // how long Remember tries to write; default 15 s
	ReadTimeout  time.Duration // how long Find tries to read; default 2 s
	CacheSize    int           // rows kept in memory; default 10,000
}

func (o Options) withDefaults() Options {
	o.Lifetime = cmp.Or(o.Lifetime, 31*24*time.Hour)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 15*time.Second)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 2*time.Second)
	o.CacheSize = cmp.Or(o.CacheSize, 10_000)
	return o
}

// Store records the regions and owners of objects. Safe for concurrent use.
type Store struct {
	options Options
	cache   *lru.Cache[string, owner] // by row key
}

// New returns a Store. It does not use the table yet.
func New(o Options) *Store {
	o = o.withDefaults()
	cache, _ := lru.New[string, owner](o.CacheSize) // fails only for sizes below 1
	return &Store{options: o, cache: cache}
}

func (s *Store) now() time.Time { return time.Now().Add(s.options.Table.Offset()) }

// Find returns the region that keeps the subscription's object, or ErrNotFound. If the
// table cannot be read, the error is a *gateway.Error instead, because the object may
// exist.
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
		"The gateway's table cannot be read now, so it is not known which region keeps the object that the request refers to. Try again.",
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

// Remember records durably that the region keeps the object and that the subscription owns
// it. If the write fails it tries again, until WriteTimeout has ended.
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

// checkExisting checks a row that exists already. It accepts the row if an earlier try of
// this call wrote it without receiving the store's answer.
func (s *Store) checkExisting(ctx context.Context, k table.Key, made owner) error {
	known, err := s.read(ctx, k)
	switch {
	case err != nil:
		return rememberError(err)
	case known.region != made.region || known.subscription != made.subscription:
		return fmt.Errorf("affinity: the object's id is already in use (region %s before, %s now)", known.region, made.region)
	}
	s.cache.Add(k.Row, known)
	return nil
}

func rememberError(err error) error {
	return gateway.StorageUnavailable.New(
		"The gateway could not record which region keeps this answer, so the answer is not sent. Try again, or send \"store\": false.",
	).WithCause(err)
}

// formatVersion is the version of the rows that this program writes, and the newest version
// that it can read.
const formatVersion = 1

// owner is the content of one row.
type owner struct {
	region, subscription string
	until                time.Time // by the clock of the table
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
		return o, fmt.Errorf("%s lacks a region, a subscription or a time, which this gateway always writes", where)
	}
	return o, nil
}
