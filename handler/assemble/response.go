package assemble

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
)

// response builds the object of a Responses stream. The last event of the stream has the
// whole object; earlier events have parts, which are used if the stream breaks off.
type response struct {
	whole   json.RawMessage // from a completed, incomplete or failed event
	started json.RawMessage // from a created, in_progress or queued event
	failure json.RawMessage // the data of an error event
	items   []*outputItem
}

// outputItem is one item of the object's output.
type outputItem struct {
	index int
	raw   json.RawMessage
	done  bool // raw is the complete item
	parts []*outputPart
}

// outputPart is a string that arrives in several delta events.
type outputPart struct {
	delta
	index int
	text  []byte // the text between the quotes, so far
}

// delta says where in an item the string of a delta event belongs. If kind is set, it is
// the field name of an object of type kind in the item's array member; otherwise it is the
// item's field member.
type delta struct{ member, kind, name string }

var deltas = map[string]delta{
	`"response.output_text.delta"`:                {"content", "output_text", "text"},
	`"response.refusal.delta"`:                    {"content", "refusal", "refusal"},
	`"response.reasoning_text.delta"`:             {"content", "reasoning_text", "text"},
	`"response.reasoning_summary_text.delta"`:     {"summary", "summary_text", "text"},
	`"response.function_call_arguments.delta"`:    {member: "arguments"},
	`"response.mcp_call_arguments.delta"`:         {member: "arguments"},
	`"response.custom_tool_call_input.delta"`:     {member: "input"},
	`"response.code_interpreter_call_code.delta"`: {member: "code"},
}

// typedEvent has the members of an event that are needed.
type typedEvent struct {
	kind, response, item, delta []byte
	output, part                int
}

func readTyped(data []byte) (e typedEvent) {
	eachMember(data, func(name, value []byte) {
		switch string(name) {
		case `"type"`:
			e.kind = value
		case `"response"`:
			e.response = value
		case `"item"`:
			e.item = value
		case `"delta"`:
			e.delta = value
		case `"output_index"`:
			e.output, _ = strconv.Atoi(string(value))
		case `"content_index"`, `"summary_index"`:
			e.part, _ = strconv.Atoi(string(value))
		}
	})
	return e
}

func (r *response) event(a *Assembler, data []byte) {
	e := readTyped(data)
	switch string(e.kind) {
	case `"response.completed"`, `"response.incomplete"`, `"response.failed"`:
		if len(e.response) > 0 && len(e.response) <= a.Limit && e.response[0] == '{' {
			*r = response{whole: bytes.Clone(e.response)}
			a.used, a.full = len(e.response), false
		}
		return
	}
	if !a.fits(data) {
		return
	}
	switch string(e.kind) {
	case `"response.created"`, `"response.in_progress"`, `"response.queued"`:
		a.keep(&r.started, e.response)
	case `"error"`:
		a.keep(&r.failure, data)
	case `"response.output_item.added"`, `"response.output_item.done"`:
		if item := r.item(a, e.output); item != nil {
			a.keep(&item.raw, e.item)
			item.finish(a, string(e.kind) == `"response.output_item.done"`)
		}
	default:
		if d, ok := deltas[string(e.kind)]; ok && len(e.delta) > 1 && e.delta[0] == '"' {
			r.grow(a, d, e)
		}
	}
}

// keep replaces dst by a copy of value if value is an object.
func (a *Assembler) keep(dst *json.RawMessage, value []byte) {
	if len(value) == 0 || value[0] != '{' {
		return
	}
	a.used += len(value) - len(*dst)
	*dst = append((*dst)[:0], value...)
}

func (r *response) item(a *Assembler, index int) *outputItem {
	for _, item := range r.items {
		if item.index == index {
			return item
		}
	}
	if len(r.items) == maxKids {
		a.full = true
		return nil
	}
	a.used += nodeCost
	item := &outputItem{index: index, raw: json.RawMessage("{}")}
	r.items = append(r.items, item)
	return item
}

// finish is called with the complete item. If done is true it removes the parts, which the
// item now contains.
func (o *outputItem) finish(a *Assembler, done bool) {
	if o.done = done; !done {
		return
	}
	for _, p := range o.parts {
		a.used -= len(p.text) + nodeCost
	}
	o.parts = nil
}

func (r *response) grow(a *Assembler, d delta, e typedEvent) {
	item := r.item(a, e.output)
	if item == nil || item.done {
		return
	}
	part := item.part(a, d, e.part)
	if part == nil {
		return
	}
	text := e.delta[1 : len(e.delta)-1]
	part.text = append(part.text, text...)
	a.used += len(text)
}

func (o *outputItem) part(a *Assembler, d delta, index int) *outputPart {
	for _, p := range o.parts {
		if p.delta == d && p.index == index {
			return p
		}
	}
	if len(o.parts) == maxKids {
		a.full = true
		return nil
	}
	a.used += nodeCost
	p := &outputPart{delta: d, index: index}
	o.parts = append(o.parts, p)
	return p
}

// object returns the whole response, or what has arrived of it.
func (r *response) object() json.RawMessage {
	if r.whole != nil {
		return r.whole
	}
	obj := r.started
	if obj == nil {
		obj = json.RawMessage(`{"object":"response"}`)
	}
	if len(r.items) > 0 {
		obj = setMember(obj, "output", r.output())
	}
	if r.failure != nil {
		obj = setMember(obj, "error", r.failure)
	}
	return obj
}

func (r *response) output() []byte {
	items := slices.SortedFunc(slices.Values(r.items), func(x, y *outputItem) int { return cmp.Compare(x.index, y.index) })
	dst := []byte{'['}
	for i, item := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, item.render()...)
	}
	return append(dst, ']')
}

// render returns the item with the strings that have arrived in delta events.
func (o *outputItem) render() json.RawMessage {
	obj := o.raw
	parts := slices.SortedStableFunc(slices.Values(o.parts), func(x, y *outputPart) int {
		return cmp.Or(cmp.Compare(x.member, y.member), cmp.Compare(x.index, y.index))
	})
	for len(parts) > 0 {
		member, n := parts[0].member, 0
		dst := []byte{'['}
		for ; n < len(parts) && parts[n].member == member; n++ {
			if n > 0 {
				dst = append(dst, ',')
			}
			dst = parts[n].render(dst)
		}
		if parts[0].kind == "" {
			dst = parts[0].render(nil)
		} else {
			dst = append(dst, ']')
		}
		obj = setMember(obj, member, dst)
		parts = parts[n:]
	}
	return obj
}

func (p *outputPart) render(dst []byte) []byte {
	if p.kind != "" {
		dst = append(dst, `{"type":"`+p.kind+`","`+p.name+`":`...)
	}
	dst = append(append(append(dst, '"'), p.text...), '"')
	switch p.kind {
	case "":
		return dst
	case "output_text":
		dst = append(dst, `,"annotations":[]`...)
	}
	return append(dst, '}')
}

// setMember returns obj with the member name set to value.
func setMember(obj json.RawMessage, name string, value []byte) json.RawMessage {
	name = `"` + name + `"`
	dst := []byte{'{'}
	add := func(n, v []byte) {
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, n...), ':'), v...)
	}
	eachMember(obj, func(n, v []byte) {
		if string(n) != name {
			add(n, v)
		}
	})
	add([]byte(name), value)
	return append(dst, '}')
}
