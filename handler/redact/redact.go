// Package redact replaces personal data in what is logged: e-mail addresses, payment card
// numbers (ISO/IEC 7812: 13 to 19 digits, Luhn's check), bank accounts (ISO 13616: IBANs with
// their country's length, modulo 97) and matches of the operator's own patterns. A match is
// replaced by the rule's name in brackets, such as [email].
//
// In JSON only the strings are searched, with their escapes resolved, so that the value stays
// valid and its numbers do not change. Data may come in pieces and needs bounded memory. A
// match longer than 4 KiB is not always found.
package redact

import (
	"bytes"
	"cmp"
	"regexp"
	"slices"
)

// builtIn has the rules that need no pattern, by name.
var builtIn = map[string]func(text []byte) []span{"email": emails, "card": cards, "iban": ibans}

// Rule is one kind of data. Pattern is nil for email, card and iban.
type Rule struct {
	Name    string
	Pattern *regexp.Regexp
}

// Rules are applied together. Of two matches that overlap, the one that begins first counts.
type Rules struct{ rules []rule }

type rule struct {
	mark []byte
	find func(text []byte) []span
}

// span is the place of one match.
type span struct {
	from, to int
	mark     []byte
}

// New returns the rules, or nil if there are none.
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
			panic("redact: there is no rule " + r.Name) // the policy's parser refuses unknown names
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

// find returns the matches of all rules in text, in order and without overlaps.
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

// JSON returns a JSON value with its strings redacted, and the number of matches.
func (r *Rules) JSON(value []byte) ([]byte, int) { return r.apply(value, true) }

// Text returns redacted text and the number of matches.
func (r *Rules) Text(text []byte) ([]byte, int) { return r.apply(text, false) }

func (r *Rules) apply(data []byte, inJSON bool) ([]byte, int) {
	out := bytes.NewBuffer(make([]byte, 0, len(data)))
	w := r.Writer(out, inJSON)
	_, _ = w.Write(data) // writes to memory
	_ = w.Close()
	return out.Bytes(), w.Count()
}
