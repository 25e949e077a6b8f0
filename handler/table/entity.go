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

// Limits of Table Storage. Azurite enforces few of them, so both stores check them.
const (
	maxKey    = 512        // UTF-16 units (1 KiB) of a partition or a row
	maxName   = 255        // characters of a property's name
	maxProps  = 252        // 255 minus PartitionKey, RowKey and Timestamp
	maxValue  = 64 << 10   // bytes of one property; strings count as UTF-16
	maxEntity = 1 << 20    // bytes, by the formula of the service
	tick      = 100        // nanoseconds: the resolution of a stored time
	perString = 4          // bytes that the formula adds for the length of a string
	perProp   = 8          // bytes that the formula adds for each property
	fixed     = 8          // bytes of a number or a time
	minYear   = 1601       // the first year that can be stored
	keyBanned = `/\#?`     // characters that a key must not contain
	lastC1    = rune(0x9f) // the last of the control characters from U+007F on
)

// check returns an error if Table Storage would refuse the entity or change a value.
func check(e Entity) error {
	if err := checkKey(e.Key); err != nil {
		return err
	}
	if len(e.Props) > maxProps {
		return fmt.Errorf("table: the entity has %d properties; at most %d are possible", len(e.Props), maxProps)
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
		return fmt.Errorf("table: the entity has %d bytes; at most %d are possible", size, maxEntity)
	}
	return nil
}

// maxSwap is the largest number of entities in one entity group transaction.
const maxSwap = 100

// checkAll returns an error if the entities cannot be replaced in one entity group
// transaction.
func checkAll(list []Entity) error {
	if len(list) == 0 || len(list) > maxSwap {
		return fmt.Errorf("table: Swap was called with %d entities; 1 to %d are possible", len(list), maxSwap)
	}
	seen := map[Key]bool{}
	for _, e := range list {
		switch {
		case e.Partition != list[0].Partition:
			return fmt.Errorf("table: Swap was called with entities of the partitions %q and %q; all must be in one partition",
				e.Partition, list[0].Partition)
		case seen[e.Key]:
			return fmt.Errorf("table: Swap was called with the entity %v twice", e.Key)
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
		return errors.New("table: the partition is empty")
	}
	for _, part := range []string{k.Partition, k.Row} {
		if !utf8.ValidString(part) || strings.ContainsAny(part, keyBanned) || strings.ContainsFunc(part, isControl) {
			return fmt.Errorf(`table: key part %q must not contain / \ # ?, control characters or broken UTF-8`, part)
		}
		if n := units(part); n > maxKey {
			return fmt.Errorf("table: the partition or the row of a key has %d UTF-16 units; at most %d are possible", n, maxKey)
		}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || (r >= 0x7f && r <= lastC1) }

func checkName(name string) error {
	switch name {
	case "PartitionKey", "RowKey", "Timestamp", "ETag":
		return fmt.Errorf("table: the property name %s is reserved by the service", name)
	}
	for i, r := range name {
		letter := r == '_' || (r|0x20 >= 'a' && r|0x20 <= 'z')
		if !letter && (i == 0 || r < '0' || r > '9') {
			return fmt.Errorf("table: the property name %q must have letters, digits and _ only, and no digit first", name)
		}
	}
	if name == "" || len(name) > maxName {
		return fmt.Errorf("table: a property name has %d characters; 1 to %d are possible", len(name), maxName)
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
			return 0, fmt.Errorf("%v cannot be stored", v)
		}
	case time.Time:
		if y := v.UTC().Year(); y < minYear || y > 9999 {
			return 0, fmt.Errorf("the year %d cannot be stored; %d to 9999 can", y, minYear)
		}
	case string:
		if !utf8.ValidString(v) {
			return 0, errors.New("the text is not valid UTF-8")
		}
		n = perString + 2*units(v)
	case []byte:
		n = perString + len(v)
	default:
		return 0, fmt.Errorf("the type %T cannot be stored", value)
	}
	if n > maxValue+perString {
		return 0, fmt.Errorf("it has %d bytes; at most %d are possible", n-perString, maxValue)
	}
	return n, nil
}

// units returns the number of UTF-16 code units in s, by which the service measures
// strings.
func units(s string) (n int) {
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

// stored returns a copy of props as a store returns them. Times are in UTC and rounded down
// to 100 ns.
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
