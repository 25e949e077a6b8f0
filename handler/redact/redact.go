// Package redact replaces personal data in records: e-mail addresses, payment card numbers
// (ISO/IEC 7812: 13 to 19 digits that pass Luhn's check), bank account numbers (ISO 13616:
// IBANs of the right length for their country that pass the modulo 97 check), and matches
// of patterns in the policy. It replaces each match by the name of its rule in brackets,
// such as [email].
//
// In JSON it searches only the strings, after decoding their escapes. The result is valid
// JSON and its numbers are unchanged. The data may arrive in pieces, and the memory is
// bounded. Therefore it may miss a match that is longer than 4 KiB.
package redact

import (
	"bytes"
	"cmp"
	"regexp"
	"slices"
)

// builtIn are the rules that need no pattern, by name.
var builtIn = map[string]func(text []byte) []span{"email": emails, "card": cards, "iban": ibans}

// Rule is one kind of personal data. Pattern is nil for email, card and iban.
type Rule struct {
	Name    string
	Pattern *regexp.Regexp
}

// Rules are applied together. If two matches overlap, the match that begins first is
// replaced.
type Rules struct{ rules []rule }

type rule struct {
	mark []byte
	find func(text []byte) []span
}

// span is the position of one match.
type span struct {
	from, to int
	mark     []byte
}

// New returns the rules in list; nil = list is empty.
func New(list []Rule) *Rules {
	if len(list) == 0 {
		return nil
	}
	r := &Rules{}
	for _, l := range list {
		r.rules = append(r.rules, rule{[]byte("[" + l.Name + "]"), l.finder()})
	}
	return r
}

func (r Rule) finder() func([]byte) []span {
	if r.Pattern == nil {
		find, ok := builtIn[r.Name]
		if !ok {
			panic("redact: there is no rule " + r.Name) // a programming error: the policy's parser refuses unknown names
		}
		return find
	}
	return func(text []byte) (found []span) {
		for _, at := range r.Pattern.FindAllIndex(text, -1) {
			if at[0] < at[1] {
				found = append(found, span{from: at[0], to: at[1]})
			}
		}
		return found
	}
}

// find returns the matches of all rules in text, sorted and without overlaps.
func (r *Rules) find(text []byte) (found []span) {
	for _, rule := range r.rules {
		for _, s := range rule.find(text) {
			s.mark = rule.mark
			found = append(found, s)
		}
	}
	slices.SortStableFunc(found, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to))
	})
	end := 0
	return slices.DeleteFunc(found, func(s span) bool {
		if s.from < end {
			return true
		}
		end = s.to
		return false
	})
}

// JSON returns a JSON value with personal data in its strings replaced, and the number of
// matches.
func (r *Rules) JSON(value []byte) ([]byte, int) { return r.apply(value, true) }

// Text returns a text with personal data replaced, and the number of matches.
func (r *Rules) Text(text []byte) ([]byte, int) { return r.apply(text, false) }

func (r *Rules) apply(data []byte, inJSON bool) ([]byte, int) {
	out := bytes.NewBuffer(make([]byte, 0, len(data)))
	w := r.Writer(out, inJSON)
	_, _ = w.Write(data) // cannot fail: it writes to memory
	_ = w.Close()
	return out.Bytes(), w.Count()
}
