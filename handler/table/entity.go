package table

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Table Storage's limits. Azurite enforces few of them, so both stores do.
const (
	maxKey    = 512        // UTF-16 units of one key part: 1 KiB
	maxName   = 255        // characters of a property name
	maxProps  = 252        // 255 less PartitionKey, RowKey and Timestamp
	maxValue  = 64 << 10   // bytes of one property, strings as UTF-16
	maxEntity = 1 << 20    // bytes by the service's own formula
	tick      = 100        // nanoseconds a stored time can tell apart
	perString = 4          // bytes of length the formula adds
	perProp   = 8          // bytes of overhead the formula adds
	fixed     = 8          // bytes of a number or a time
	minYear   = 1601       // the first year a stored time can have
	keyBanned = `/\#?`     // characters no key may hold
	lastC1    = rune(0x9f) // control characters end here
)

// check refuses what Table Storage would refuse, and what it would store as something else.
func check(e Entity) error {
	if err := checkKey(e.Key); err != nil {
		return err
	}
	if len(e.Props) > maxProps {
		return fmt.Errorf("table: %d properties: at most %d fit an entity", len(e.Props), maxProps)
	}
	size := 4 + 2*(units(e.Partition)+units(e.Row))
	for name, value := range e.Props {
		if err := checkName(name); err != nil {
			return err
		}
		n, err := valueSize(value)
		if err != nil {
			return fmt.Errorf("table: property %s: %w", name, err)
		}
		size += perProp + 2*units(name) + n
	}
	if size > maxEntity {
		return fmt.Errorf("table: entity of %d bytes: at most %d fit", size, maxEntity)
	}
	return nil
}

// maxSwap is how many entities one group transaction may have.
const maxSwap = 100

// checkAll refuses what cannot be one group transaction.
func checkAll(list []Entity) error {
	if len(list) == 0 || len(list) > maxSwap {
		return fmt.Errorf("table: %d entities to swap: from 1 to %d can be", len(list), maxSwap)
	}
	seen := map[Key]bool{}
	for _, e := range list {
		switch {
		case e.Partition != list[0].Partition:
			return fmt.Errorf("table: %q and %q are two partitions: one can be swapped at a time", e.Partition, list[0].Partition)
		case seen[e.Key]:
			return fmt.Errorf("table: %v stands twice in one swap", e.Key)
		}
		seen[e.Key] = true
		if err := check(e); err != nil {
			return err
		}
	}
	return nil
}

func checkKey(k Key) error {
	if k.Partition == "" {
		return errors.New("table: empty partition")
	}
	for _, part := range []string{k.Partition, k.Row} {
		if !utf8.ValidString(part) || strings.ContainsAny(part, keyBanned) || strings.ContainsFunc(part, isControl) {
			return fmt.Errorf(`table: key part %q: no / \ # ?, control characters or broken UTF-8`, part)
		}
		if n := units(part); n > maxKey {
			return fmt.Errorf("table: key part of %d characters: at most %d", n, maxKey)
		}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || (r >= 0x7f && r <= lastC1) }

func checkName(name string) error {
	switch name {
	case "PartitionKey", "RowKey", "Timestamp", "ETag":
		return fmt.Errorf("table: property name %s is the service's own", name)
	}
	for i, r := range name {
		letter := r == '_' || (r|0x20 >= 'a' && r|0x20 <= 'z')
		if !letter && (i == 0 || r < '0' || r > '9') {
			return fmt.Errorf("table: property name %q: letters, digits and _, no digit first", name)
		}
	}
	if name == "" || len(name) > maxName {
		return fmt.Errorf("table: property name of %d characters: 1 to %d", len(name), maxName)
	}
	return nil
}

func valueSize(value any) (int, error) {
	n := fixed
	switch v := value.(type) {
	case bool:
		n = 1
	case int64:
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, fmt.Errorf("%v is no number that can be stored", v)
		}
	case time.Time:
		if y := v.UTC().Year(); y < minYear || y > 9999 {
			return 0, fmt.Errorf("year %d: %d to 9999 can be stored", y, minYear)
		}
	case string:
		if !utf8.ValidString(v) {
			return 0, errors.New("broken UTF-8")
		}
		n = perString + 2*units(v)
	case []byte:
		n = perString + len(v)
	default:
		return 0, fmt.Errorf("type %T cannot be stored", value)
	}
	if n > maxValue+perString {
		return 0, fmt.Errorf("%d bytes: at most %d fit a property", n-perString, maxValue)
	}
	return n, nil
}

// units counts UTF-16 code units, in which the service measures.
func units(s string) (n int) {
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

// stored returns props as a store gives them back: own memory, times in UTC at 100 ns.
func stored(props map[string]any) map[string]any {
	out := make(map[string]any, len(props))
	maps.Copy(out, props)
	for name, value := range out {
		switch v := value.(type) {
		case []byte:
			out[name] = append([]byte{}, v...)
		case time.Time:
			out[name] = v.UTC().Truncate(tick)
		}
	}
	return out
}
