// Package assemble builds from the events of a stream the object that the same request
// without streaming would have returned. It is pure.
package assemble

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Kind says what a stream's events are.
type Kind int

// The streams that have an equivalent object.
const (
	Chat       Kind = iota // chat.completion.chunk
	Completion             // text_completion
	Response               // the Responses API's typed events
)

// Assembler is the object of one stream as far as its events have come. Members that it
// does not know keep their last value. Strings are joined as they are spelled, escapes
// included, so nothing is decoded.
type Assembler struct {
	// Limit bounds the bytes kept; beyond it events are ignored. Default 8 MiB.
	Limit int

	kind      Kind
	root      node
	response  response
	used      int
	seen      bool
	full      bool
	malformed int
}

// New returns an assembler for one stream.
func New(kind Kind) *Assembler {
	a := &Assembler{kind: kind, Limit: 8 << 20}
	switch kind {
	case Chat:
		a.root.rule = chatRule
	case Completion:
		a.root.rule = completionRule
	case Response:
	}
	return a
}

// Full reports whether the limit was reached, so that the object lacks later events.
func (a *Assembler) Full() bool { return a.full }

// Event takes one event's data, which it does not keep.
func (a *Assembler) Event(data []byte) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || string(data) == "[DONE]" {
		return
	}
	if data[0] != '{' || !jsontext.Value(data).IsValid(lax...) {
		a.malformed++
		return
	}
	a.seen = true
	switch {
	case a.kind == Response:
		a.response.event(a, data)
	case a.fits(data):
		a.merge(&a.root, data)
	}
}

// fits reports whether what data adds may be kept.
func (a *Assembler) fits(data []byte) bool {
	a.full = a.full || a.used+len(data) > a.Limit
	return !a.full
}

// lax accepts what a region sends as it is. The depth stays bounded.
var lax = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// Object returns the object as assembled until now, or nil if no event was understood.
func (a *Assembler) Object() json.RawMessage {
	if !a.seen {
		return nil
	}
	if a.kind == Response {
		return a.response.object()
	}
	return a.root.render(nil)
}

// how says what a later value does to an earlier one.
type how int

const (
	replace how = iota // the later one stands, unless it is null
	concat             // strings are joined
	extend             // arrays are joined
	merge              // objects are merged, member by member
	indexed            // arrays of objects are merged by the objects' "index"
	drop               // it has no place in the object
)

// rule says how the values of one name are joined. in has the rules of its members.
type rule struct {
	how   how
	as    string // the member's name in the object, quoted, if it is another
	value string // stands whatever is sent
	in    map[string]*rule
}

var (
	last    = &rule{}
	joined  = &rule{how: concat}
	list    = &rule{how: extend}
	dropped = &rule{how: drop}

	// A filter's categories come in several chunks.
	filters = &rule{how: merge}

	callRule = &rule{how: merge, in: map[string]*rule{"arguments": joined}}
	toolRule = &rule{how: indexed, in: map[string]*rule{
		"index":    dropped, // only chunks have it
		"function": callRule,
		"custom":   {how: merge, in: map[string]*rule{"input": joined}},
	}}
	messageRule = &rule{how: merge, as: `"message"`, in: map[string]*rule{
		"content":           joined,
		"refusal":           joined,
		"reasoning_content": joined,
		"tool_calls":        toolRule,
		"function_call":     callRule,
		"annotations":       list,
		"context":           {how: merge},
		"audio":             {how: merge, in: map[string]*rule{"data": joined, "transcript": joined}},
	}}
	chatRule = &rule{how: merge, in: map[string]*rule{
		"object":      {value: `"chat.completion"`},
		"obfuscation": dropped, // padding against traffic analysis
		"choices": {how: indexed, in: map[string]*rule{
			"delta":                  messageRule,
			"content_filter_results": filters,
			"logprobs":               {how: merge, in: map[string]*rule{"content": list, "refusal": list}},
		}},
	}}
	completionRule = &rule{how: merge, in: map[string]*rule{
		"choices": {how: indexed, in: map[string]*rule{
			"text":                   joined,
			"content_filter_results": filters,
			"logprobs": {how: merge, in: map[string]*rule{
				"tokens": list, "token_logprobs": list, "top_logprobs": list, "text_offset": list,
			}},
		}},
	}}
)

// node is the value of one member so far.
type node struct {
	sent  string // the member's name in events, quoted
	name  string // and in the object
	index int    // in an indexed array
	rule  *rule
	raw   []byte // replace: the value; concat: between the quotes; extend: between the brackets
	kids  []*node
	set   bool // a value of the expected type was seen; else raw is the last other one, or null
}

// Bounds on the members of one object. No service sends half as many.
const (
	maxKids  = 512
	nodeCost = 128
)

// merge joins value, which is valid JSON, to n.
func (a *Assembler) merge(n *node, value []byte) {
	switch {
	case n.rule.value != "":
		n.raw = append(n.raw[:0], n.rule.value...)
	case n.rule.how == merge && value[0] == '{':
		n.set = true
		eachMember(value, func(name, v []byte) { a.member(n, name, v) })
	case n.rule.how == indexed && value[0] == '[':
		n.set = true
		i := 0
		eachItem(value, func(v []byte) { a.item(n, i, v); i++ })
	case n.rule.how == concat && value[0] == '"':
		a.grow(n, value[1:len(value)-1])
	case n.rule.how == extend && value[0] == '[':
		items := bytes.TrimSpace(value[1 : len(value)-1])
		if len(n.raw) > 0 && len(items) > 0 && n.set {
			a.grow(n, []byte{','})
		}
		a.grow(n, items)
	case n.set || len(n.raw) > 0 && value[0] == 'n': // never to null, never to another type
	case !bytes.Equal(n.raw, value):
		a.used += len(value) - len(n.raw)
		n.raw = append(n.raw[:0], value...)
	}
}

// grow appends to the joined parts, dropping a null or the like that came before them.
func (a *Assembler) grow(n *node, part []byte) {
	if !n.set {
		n.set = true
		n.raw = n.raw[:0]
	}
	n.raw = append(n.raw, part...)
	a.used += len(part)
}

func (a *Assembler) member(n *node, name, value []byte) {
	for _, k := range n.kids {
		if k.sent == string(name) || k.name == string(name) {
			a.merge(k, value)
			return
		}
	}
	r := n.rule.in[string(name[1:len(name)-1])]
	switch {
	case r == nil:
		r = last
	case r.how == drop:
		return
	}
	if k := a.kid(n, r); k != nil {
		k.sent, k.name = string(name), r.as
		if r.as == "" {
			k.name = k.sent
		}
		a.merge(k, value)
	}
}

// item merges an object of an indexed array. An object without an index goes by its position.
func (a *Assembler) item(n *node, index int, value []byte) {
	if value[0] != '{' {
		return
	}
	eachMember(value, func(name, v []byte) {
		if string(name) == `"index"` {
			if i, err := strconv.Atoi(string(v)); err == nil {
				index = i
			}
		}
	})
	for _, k := range n.kids {
		if k.index == index {
			a.merge(k, value)
			return
		}
	}
	if k := a.kid(n, &rule{how: merge, in: n.rule.in}); k != nil {
		k.index = index
		a.merge(k, value)
	}
}

func (a *Assembler) kid(n *node, r *rule) *node {
	if len(n.kids) == maxKids {
		a.full = true
		return nil
	}
	a.used += nodeCost
	k := &node{rule: r}
	n.kids = append(n.kids, k)
	return k
}

// render appends n's value as JSON.
func (n *node) render(dst []byte) []byte {
	switch {
	case !n.set:
		return append(dst, n.raw...)
	case n.rule.how == concat:
		return append(append(append(dst, '"'), n.raw...), '"')
	case n.rule.how == extend:
		return append(append(append(dst, '['), n.raw...), ']')
	case n.rule.how == indexed:
		return n.renderItems(dst)
	}
	dst = append(dst, '{')
	for i, k := range n.kids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, k.name...), ':')
		dst = k.render(dst)
	}
	return append(dst, '}')
}

func (n *node) renderItems(dst []byte) []byte {
	items := slices.SortedFunc(slices.Values(n.kids), func(x, y *node) int { return cmp.Compare(x.index, y.index) })
	dst = append(dst, '[')
	for i, k := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = k.render(dst)
	}
	return append(dst, ']')
}
