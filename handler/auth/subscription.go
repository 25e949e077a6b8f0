// Package auth finds out who sent a request. Callers have a subscription with two keys, as
// in API Management, or an Entra access token, or both.
//
// Table layout (one table; every row has its format version in "v"):
//
//	partition "subscription", row <id>          the subscription: name, product, state, both hashes
//	partition "key-<2 hex>",  row <64 hex>      SHA-256 of a key → subscription id
//
// Keys are never stored. A key is valid while its row names a subscription that has the
// key's hash. So the row of a new key is written first, then the subscription, and the row
// of the old key is deleted last: a process killed in between leaves a row that grants
// nothing.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

// State is the state of a subscription, as in API Management.
type State string

// The states of a subscription. Only active subscriptions may call.
const (
	Active    State = "active"
	Suspended State = "suspended"
	Cancelled State = "cancelled"
)

// The names (slots) of a subscription's two keys.
const (
	primary   = "primary"
	secondary = "secondary"
)

// Subscription is what a team has: an id, a name, a product and two keys. Usage and limits
// count by the id, which never changes.
type Subscription struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Product string    `json:"product"`
	State   State     `json:"state"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`

	hash map[string]string // SHA-256 of each key in hex, by slot (primary, secondary)
	rev  table.Rev
}

// Keys are newly made keys. They are shown only once, because the table has only their
// hashes.
type Keys struct {
	Primary   string `json:"primaryKey,omitempty"`
	Secondary string `json:"secondaryKey,omitempty"`
}

// Subscriptions reads and changes the subscriptions in the table. Safe for concurrent use.
type Subscriptions struct{ store table.Store }

// NewSubscriptions returns the subscriptions stored in one table.
func NewSubscriptions(store table.Store) *Subscriptions { return &Subscriptions{store} }

// uuidForm is the form of the ids in the tokens of Entra.
var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$`)

// Create stores a new subscription. It generates the id and the keys that are empty, and
// uses given keys as they are. Errors are *gateway.Error: BadRequest if the id or a key is
// malformed or already in use.
func (s *Subscriptions) Create(ctx context.Context, sub Subscription, keys Keys) (Subscription, Keys, error) {
	if sub.ID == "" {
		sub.ID = "sub-" + randomHex(6)
	}
	if !idForm.MatchString(sub.ID) {
		return sub, keys, gateway.InvalidID.New(
			"The id must be up to 80 letters, digits, dots, dashes and underscores, and begin with a letter or a digit.")
	}
	if sub.Name == "" {
		sub.Name = sub.ID
	}
	now := time.Now().UTC().Truncate(time.Second)
	sub.State, sub.Created, sub.Changed, sub.hash = Active, now, now, map[string]string{}
	for slot, key := range map[string]*string{primary: &keys.Primary, secondary: &keys.Secondary} {
		hash, err := s.putKey(ctx, sub.ID, key)
		if err != nil {
			return sub, keys, err
		}
		sub.hash[slot] = hash
	}
	if sub.hash[primary] == sub.hash[secondary] {
		return sub, keys, gateway.InvalidKey.New("The two keys of a subscription must differ.")
	}
	_, err := s.store.Insert(ctx, sub.entity())
	if errors.Is(err, table.ErrExists) {
		return sub, keys, gateway.InvalidID.New("The subscription id %s is already in use. Choose another id.", sub.ID)
	}
	return sub, keys, storeError(err)
}

// putKey writes the row of a key. The key is valid only after its subscription has the hash
// too.
func (s *Subscriptions) putKey(ctx context.Context, id string, key *string) (hash string, err error) {
	if *key == "" {
		*key = randomHex(16)
	}
	if len(*key) < 16 || len(*key) > 256 {
		return "", gateway.InvalidKey.New("A key must have 16 to 256 characters.")
	}
	hash = hashOf(*key)
	_, err = s.store.Insert(ctx, table.Entity{Key: keyRow(hash), Props: keyProps(id)})
	if !errors.Is(err, table.ErrExists) {
		return hash, storeError(err)
	}
	owner, gerr := s.byHash(ctx, hash)
	if gerr != nil && gateway.KindOf(gerr) != gateway.Unauthenticated {
		return "", gerr
	}
	if gerr == nil && owner.ID != id {
		return "", gateway.InvalidKey.New("This key belongs to another subscription. Give another key.")
	}
	return hash, s.adopt(ctx, hash, id)
}

// adopt gives the row of a key that an interrupted change left behind to the subscription
// id.
func (s *Subscriptions) adopt(ctx context.Context, hash, id string) error {
	e, err := s.store.Get(ctx, keyRow(hash))
	if err != nil {
		return storeError(err)
	}
	e.Props = keyProps(id)
	_, err = s.store.Replace(ctx, e)
	return storeError(err)
}

// Get returns one subscription. The error is NotFound if there is none with this id.
func (s *Subscriptions) Get(ctx context.Context, id string) (Subscription, error) {
	if !idForm.MatchString(id) {
		return Subscription{}, notFound(id)
	}
	e, err := s.store.Get(ctx, table.Key{Partition: "subscription", Row: id})
	if errors.Is(err, table.ErrNotFound) {
		return Subscription{}, notFound(id)
	}
	if err != nil {
		return Subscription{}, storeError(err)
	}
	return fromEntity(e)
}

// List returns all subscriptions in the order of their ids.
func (s *Subscriptions) List(ctx context.Context) ([]Subscription, error) {
	list := []Subscription{}
	for e, err := range s.store.Scan(ctx, "subscription") {
		if err != nil {
			return nil, storeError(err)
		}
		sub, err := fromEntity(e)
		if err != nil {
			return nil, err
		}
		list = append(list, sub)
	}
	return list, nil
}

// Rotate replaces one of the two keys and returns the new one. The other key stays valid.
// The old key becomes invalid within the time for which instances cache keys.
func (s *Subscriptions) Rotate(ctx context.Context, id, slot string) (Subscription, Keys, error) {
	if slot != primary && slot != secondary {
		return Subscription{}, Keys{}, gateway.InvalidKey.New(`The key to rotate must be "primary" or "secondary".`)
	}
	if sub, err := s.Get(ctx, id); err != nil {
		return sub, Keys{}, err
	}
	key := ""
	hash, err := s.putKey(ctx, id, &key)
	if err != nil {
		return Subscription{}, Keys{}, err
	}
	var old string
	sub, err := s.change(ctx, id, func(sub *Subscription) {
		old = sub.hash[slot]
		sub.hash[slot] = hash
	})
	if err != nil {
		return sub, Keys{}, err
	}
	if e, err := s.store.Get(ctx, keyRow(old)); err == nil {
		_ = s.store.Delete(ctx, e) // if this fails, the row remains and is harmless: the subscription no longer has its hash
	}
	if slot == primary {
		return sub, Keys{Primary: key}, nil
	}
	return sub, Keys{Secondary: key}, nil
}

// SetState changes the state of a subscription. A cancelled subscription stays cancelled.
func (s *Subscriptions) SetState(ctx context.Context, id string, state State) (Subscription, error) {
	sub, err := s.Get(ctx, id)
	if err != nil {
		return sub, err
	}
	if sub.State == Cancelled && state != Cancelled {
		return sub, gateway.InvalidState.New("The subscription %s is cancelled for good. Create a new one.", id)
	}
	return s.change(ctx, id, func(sub *Subscription) { sub.State = state })
}

// change edits a subscription by compare-and-swap. It tries a few times, so that
// simultaneous changes all succeed.
func (s *Subscriptions) change(ctx context.Context, id string, edit func(*Subscription)) (Subscription, error) {
	for range 5 {
		sub, err := s.Get(ctx, id)
		if err != nil {
			return sub, err
		}
		edit(&sub)
		sub.Changed = time.Now().UTC().Truncate(time.Second)
		_, err = s.store.Replace(ctx, sub.entity())
		if !errors.Is(err, table.ErrConflict) {
			return sub, storeError(err)
		}
	}
	return Subscription{}, gateway.SubscriptionChanging.New(
		"The subscription %s was changed by other requests at the same time. Try again.", id)
}

// byHash returns the subscription whose key has the hash. The error is Unauthenticated if
// there is none.
func (s *Subscriptions) byHash(ctx context.Context, hash string) (Subscription, error) {
	row, err := s.store.Get(ctx, keyRow(hash))
	if errors.Is(err, table.ErrNotFound) {
		return Subscription{}, errInvalidKey()
	}
	if err != nil {
		return Subscription{}, storeError(err)
	}
	if err := checkVersion(row); err != nil {
		return Subscription{}, err
	}
	id, _ := row.Props["Subscription"].(string)
	sub, err := s.Get(ctx, id)
	if gateway.KindOf(err) == gateway.NotFound && err != nil {
		return Subscription{}, errInvalidKey()
	}
	if err == nil && sub.slotOf(hash) == "" {
		return Subscription{}, errInvalidKey()
	}
	return sub, err
}

func (s Subscription) slotOf(hash string) string {
	for _, slot := range []string{primary, secondary} {
		if s.hash[slot] == hash {
			return slot
		}
	}
	return ""
}

// rowVersion is the version of the format of both kinds of rows.
const rowVersion = 1

func checkVersion(e table.Entity) error {
	if v, ok := e.Props["v"].(int64); !ok || v != rowVersion {
		return fmt.Errorf("auth: row %v has format version %v; this gateway reads version %d", e.Key, e.Props["v"], rowVersion)
	}
	return nil
}

func keyProps(subscription string) map[string]any {
	return map[string]any{"v": int64(rowVersion), "Subscription": subscription}
}

func (s Subscription) entity() table.Entity {
	return table.Entity{Key: table.Key{Partition: "subscription", Row: s.ID}, Rev: s.rev, Props: map[string]any{
		"v": int64(rowVersion), "Name": s.Name, "Product": s.Product, "State": string(s.State), "Created": s.Created, "Changed": s.Changed,
		"PrimaryHash": s.hash[primary], "SecondaryHash": s.hash[secondary],
	}}
}

func fromEntity(e table.Entity) (Subscription, error) {
	if err := checkVersion(e); err != nil {
		return Subscription{}, err
	}
	text := func(name string) string { v, _ := e.Props[name].(string); return v }
	at := func(name string) time.Time { v, _ := e.Props[name].(time.Time); return v }
	return Subscription{
		ID: e.Row, Name: text("Name"), Product: text("Product"), State: State(text("State")),
		Created: at("Created"), Changed: at("Changed"),
		hash: map[string]string{primary: text("PrimaryHash"), secondary: text("SecondaryHash")}, rev: e.Rev,
	}, nil
}

func keyRow(hash string) table.Key { return table.Key{Partition: "key-" + hash[:2], Row: hash} }

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// randomHex returns 2n random hex digits. With n = 16 they have the form of API
// Management's keys.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // cannot fail (crypto/rand)
	return hex.EncodeToString(b)
}

func notFound(id string) error {
	return gateway.SubscriptionNotFound.New("There is no subscription with the id %q.", id)
}

func storeError(err error) error {
	if err == nil {
		return nil
	}
	return gateway.StorageUnavailable.Because(err).WithRetry(time.Second)
}
