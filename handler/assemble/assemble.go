// Package assemble builds one object from the events of a stream: the object that the
// service would have returned without streaming. It does no I/O.
package assemble

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Kind is the kind of a stream.
type Kind int

// The kinds of streams. Each has an equivalent object.
const (
	Chat       Kind = iota // chunks are chat.completion.chunk objects
	Completion             // chunks are text_completion objects
	Response               // events of the Responses API, each with a type
)

// Assembler builds the object of one stream from the events that it is given. Of members
// that it does not know, the last value counts. It joins strings without decoding their
// escapes.
type Assembler struct {
	// Limit is the largest number of bytes that are kept; later events are ignored. Default
	// 8 MiB.
	Limit int

	kind      Kind
	root      node
	response  response
	used      int
	seen      bool
	full      bool
	malformed int
}

// New returns an Assembler for one stream.
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

// Full reports whether Limit was reached, so that the object is incomplete.
func (a *Assembler) Full() bool { return a.full }

// Event adds the data of one event. It does not keep the slice data.
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

// fits reports whether data can be added without exceeding Limit.
func (a *Assembler) fits(data []byte) bool {
	a.full = a.full || a.used+len(data) > a.Limit
	return !a.full
}

// lax accepts duplicate names and invalid UTF-8, because the object repeats what a region
// has sent. The nesting depth is still limited.
var lax = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// Object returns the object built so far, or nil if no event could be used.
func (a *Assembler) Object() json.RawMessage {
	if !a.seen {
		return nil
	}
	if a.kind == Response {
		return a.response.object()
	}
	return a.root.render(nil)
}

// how says how a later value of a member is combined with the earlier value.
type how int

const (
	replace how = iota // the later value replaces the earlier one, unless it is null
	concat             // the strings are joined
	extend             // the arrays are joined
	merge              // the objects are merged member by member
	indexed            // the arrays of objects are merged; objects with equal "index" belong together
	drop               // the member is not part of the object
)

// rule says how the values of a member are combined. in has the rules for the members of
// that value.
type rule struct {
	how   how
	as    string // the member's quoted name in the object, if that differs from the name in events
	value string // a fixed value that replaces every value that is sent
	in    map[string]*rule
}

var (
	last    = &rule{}
	joined  = &rule{how: concat}
	list    = &rule{how: extend}
	dropped = &rule{how: drop}

	// The results of the categories of a content filter arrive in several chunks.
	filters = &rule{how: merge}

	callRule = &rule{how: merge, in: map[string]*rule{"arguments": joined}}
	toolRule = &rule{how: indexed, in: map[string]*rule{
		"index":    dropped, // only chunks have this member
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

// node is one member of the object with its value so far.
type node struct {
	sent  string // the member's quoted name in events
	name  string // the member's quoted name in the object
	index int    // the index of the item, if the node is an item of an indexed array
	rule  *rule
	raw   []byte // replace: the value; concat: the text between the quotes; extend: the text between the brackets
	kids  []*node
	set   bool // a value of the expected type has arrived; if false, raw is the last value of another type, or empty
}

// Limits on the members of one object. They are more than twice what the service sends.
const (
	maxKids  = 512
	nodeCost = 128
)

// merge combines value, which is valid JSON, with the value of n.
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
	case n.set || len(n.raw) > 0 && value[0] == 'n': // a value is never replaced by null or by a value of another type
	case !bytes.Equal(n.raw, value):
		a.used += len(value) - len(n.raw)
		n.raw = append(n.raw[:0], value...)
	}
}

// grow appends part to the joined value. It first removes a value of another type, such as
// null.
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

// item merges an object into an indexed array. If the object has no index, its position in
// the array is its index.
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

// render appends the value of n to dst as JSON.
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
