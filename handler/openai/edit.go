package openai

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"aoaigateway/handler/body"
	"aoaigateway/handler/jsonscan"
)

// Layout says where in a request's body the members are that the gateway may edit. All other
// bytes stay as the client sent them.
type Layout struct {
	model, outputCap span
	options          optionsLayout
	insertAt         int64 // where another member can be inserted
	members          int   // number of members
}

// optionsLayout says where the object stream_options and its members are.
type optionsLayout struct {
	at       span
	kind     jsonscan.Kind // of the value
	usage    span          // the value of include_usage
	insertAt int64
	members  int
	isUsage  bool // the present member is include_usage; only used while parsing
}

// span is where a value is; zero = there is no such value.
type span struct{ from, to int64 }

func (s span) replaced(text string) body.Edit { return body.Edit{From: s.from, To: s.to, Text: text} }

// inserted returns the edit that adds a member to an object that has n members.
func inserted(at int64, n int, member string) body.Edit {
	if n > 0 {
		member = "," + member
	}
	return body.Edit{From: at, To: at, Text: member}
}

// WithModel returns the edit that names the region's deployment as the model.
func (r *Request) WithModel(deployment string) body.Edit {
	quoted, _ := jsontext.AppendQuote(nil, deployment) // fails only for invalid UTF-8, which it replaces
	return r.Layout.model.replaced(string(quoted))
}

// WithUsage returns the edit that asks for the usage of a stream. ok is false if the request
// has stream options that are neither an object nor null; the region refuses these.
func (r *Request) WithUsage() (edit body.Edit, ok bool) {
	const member = `"include_usage":true`
	o := &r.Layout.options
	switch {
	case o.at == span{}:
		return inserted(r.Layout.insertAt, r.Layout.members, `"stream_options":{`+member+`}`), true
	case o.kind == jsonscan.Null:
		return o.at.replaced("{" + member + "}"), true
	case o.kind != jsonscan.BeginObject:
		return edit, false
	case o.usage != span{}:
		return o.usage.replaced("true"), true
	}
	return inserted(o.insertAt, o.members, member), true
}

// capName returns the member for the output cap that the gateway writes; empty = none.
func capName(kind Kind) string {
	switch kind {
	case Chat:
		return "max_completion_tokens"
	case Completions:
		return "max_tokens"
	case Responses:
		return "max_output_tokens"
	default:
		return ""
	}
}

// WithMaxOutput returns the edit that sets the output cap. The caller has checked that the
// request has none. ok is false if the operation has no output cap. The request then counts
// one member more, so that a further edit is inserted after this one.
func (r *Request) WithMaxOutput(kind Kind, tokens int64) (edit body.Edit, ok bool) {
	name, number := capName(kind), strconv.FormatInt(tokens, 10)
	switch {
	case name == "":
		return edit, false
	case r.Layout.outputCap != span{}:
		return r.Layout.outputCap.replaced(number), true
	}
	edit = inserted(r.Layout.insertAt, r.Layout.members, strconv.Quote(name)+":"+number)
	r.Layout.members++
	return edit, true
}
