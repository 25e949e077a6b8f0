package openai

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/body"
	"aoaigateway/handler/jsonscan"
)

// Request has the fields of a metered request that the gateway needs. A field of an
// unexpected type counts as absent, because the region refuses the request anyway.
type Request struct {
	Model        string
	Stream       bool
	IncludeUsage bool // the client asked for the usage chunk
	DataSources  bool // the request uses "on your data", for which the service refuses stream_options
	Background   bool // "background": true; the region continues after its answer
	EndUser      string
	Previous     string // previous_response_id; empty = none
	Unstored     bool   // "store": false; later requests cannot refer to the response
	MaxOutput    int64  // output cap of one choice in tokens; 0 = the request has none
	Choices      int64  // n or best_of; at least 1
	PromptBytes  int64  // bytes of the JSON of everything that becomes part of the prompt
	Messages     int64
	NotAllText   bool // the prompt has images, audio, files or stored context, so its bytes do not bound its tokens

	Layout Layout
}

// longestField is how many bytes of a scalar member are read. Only the beginning of a longer
// string is known, which is the name of nothing.
const longestField = 1 << 10

// ParseRequest reads the body of a metered request. It refuses bodies that two parsers
// could read differently: duplicate names, invalid UTF-8, anything after the object. The
// error says where.
func ParseRequest(kind Kind, b *body.Body) (Request, error) {
	p := parser{kind: kind, scanner: b.Scanner(longestField), r: Request{Choices: 1, Messages: 1}}
	if err := p.members(); err != nil {
		return Request{}, describe(err)
	}
	return p.request(), nil
}

// parser reads the members of a request's body.
type parser struct {
	kind    Kind
	scanner *jsonscan.Scanner
	r       Request

	user, safetyID          string
	maxTokens, maxCompleted int64 // max_tokens and max_completion_tokens
	maxOutput               int64 // max_output_tokens
	n, bestOf               int64
	prompts                 int64 // elements of prompt, or 1 if they are the tokens of one prompt
	messages, inputs        int64
}

var errNoObject = errors.New("the request body must be a JSON object")

// members reads all members of the body.
func (p *parser) members() error {
	first, err := p.scanner.Next()
	if err != nil {
		return err
	}
	if first.Kind != jsonscan.BeginObject {
		if err := p.rest(); err != nil {
			return err
		}
		return errNoObject
	}
	p.r.Layout.insertAt = first.End
	for {
		t, err := p.scanner.Next()
		if err != nil {
			return err
		}
		if t.Kind == jsonscan.EndObject {
			return p.rest()
		}
		name := t.Unquoted()
		if err := p.member(name); err != nil {
			return err
		}
	}
}

// rest reads to the end of the text.
func (p *parser) rest() error {
	for {
		if _, err := p.scanner.Next(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// value is the value of a member of the body.
type value struct {
	first    jsonscan.Token // a scalar, or the beginning of an object or array
	at       span
	elements int64         // of an array
	element  jsonscan.Kind // the kind of the first element of an array
	media    bool          // its tokens do not depend on its bytes alone
}

func (v *value) size() int64  { return v.at.to - v.at.from }
func (v *value) isTrue() bool { return v.first.Kind == jsonscan.True }

// refers reports whether the value may refer to something that the service keeps: it has
// more bytes than null.
func (v *value) refers() bool { return v.size() > int64(len("null")) }

// member reads the value of a member.
func (p *parser) member(name string) error {
	p.r.Layout.members++
	v := value{}
	var err error
	if v.first, err = p.scanner.Next(); err != nil {
		return err
	}
	v.at = span{v.first.Start, v.first.End}
	if v.first.Kind == jsonscan.BeginObject || v.first.Kind == jsonscan.BeginArray {
		if err := p.inside(name, &v); err != nil {
			return err
		}
	}
	p.r.Layout.insertAt = v.at.to
	p.take(name, &v)
	return nil
}

// inside reads the content of an object or array.
func (p *parser) inside(name string, v *value) error {
	options := &p.r.Layout.options
	isOptions := name == "stream_options" && v.first.Kind == jsonscan.BeginObject
	if isOptions {
		options.insertAt = v.first.End
	}
	for {
		t, err := p.scanner.Next()
		if err != nil {
			return err
		}
		if t.Depth == 1 {
			v.at.to = t.End
			v.media = v.media && v.size() >= 8
			return nil
		}
		if t.Depth == 2 {
			ends := t.Kind == jsonscan.EndObject || t.Kind == jsonscan.EndArray
			if v.first.Kind == jsonscan.BeginArray && !ends {
				if v.elements++; v.elements == 1 {
					v.element = t.Kind
				}
			}
			if isOptions {
				p.option(&t)
			}
		}
		v.media = v.media || t.Kind == jsonscan.String && (t.Hides || isMedia(t.Text))
	}
}

// option reads a token of the object stream_options, outside objects and arrays in it.
func (p *parser) option(t *jsonscan.Token) {
	o := &p.r.Layout.options
	if t.IsName {
		o.members++
		o.isUsage = t.Unquoted() == "include_usage"
		return
	}
	switch {
	case o.isUsage && (t.Kind == jsonscan.EndObject || t.Kind == jsonscan.EndArray):
		o.usage.to = t.End
	case o.isUsage:
		o.usage = span{t.Start, t.End}
		p.r.IncludeUsage = t.Kind == jsonscan.True
	}
	o.insertAt = t.End
}

// take keeps what a member says.
func (p *parser) take(name string, v *value) { //nolint:cyclop // one case for each member
	r := &p.r
	switch name {
	case "model":
		r.Model, r.Layout.model = v.first.Unquoted(), v.at
	case "stream":
		r.Stream = p.kind != Embeddings && v.isTrue()
	case "stream_options":
		r.Layout.options.at, r.Layout.options.kind = v.at, v.first.Kind
	case "data_sources", "dataSources":
		r.DataSources = true
	case "background":
		r.Background = v.isTrue()
	case "user":
		p.user = v.first.Unquoted()
	case "safety_identifier":
		p.safetyID = v.first.Unquoted()
	case "previous_response_id":
		r.Previous = v.first.Unquoted()
	case "store":
		r.Unstored = v.first.Kind == jsonscan.False
	case "conversation":
		r.NotAllText = r.NotAllText || v.refers()
	case "max_tokens", "max_completion_tokens", "max_output_tokens":
		p.takeCap(name, v)
	case "n":
		p.n = positive(&v.first)
	case "best_of":
		p.bestOf = positive(&v.first)
	case "messages", "input", "prompt", "suffix", "instructions", "tools", "functions", "response_format", "text",
		"prediction": // predicted output; its rejected tokens are billed as output
		p.takePrompt(name, v)
	}
}

// takeCap keeps an output cap, and where the gateway may write one.
func (p *parser) takeCap(name string, v *value) {
	tokens := positive(&v.first)
	switch name {
	case "max_tokens":
		p.maxTokens = tokens
	case "max_completion_tokens":
		p.maxCompleted = tokens
	case "max_output_tokens":
		p.maxOutput = tokens
	}
	if name == capName(p.kind) {
		p.r.Layout.outputCap = v.at
	}
}

// takePrompt keeps the size of a member that becomes part of the prompt.
func (p *parser) takePrompt(name string, v *value) {
	p.r.PromptBytes += v.size()
	p.r.NotAllText = p.r.NotAllText || v.media
	switch name {
	case "messages":
		p.messages = v.elements
	case "input":
		p.inputs = v.elements
	case "prompt":
		p.r.NotAllText = p.r.NotAllText || p.kind == Responses && v.refers() // a stored prompt template
		if p.prompts = max(1, v.elements); v.element == jsonscan.Number {
			p.prompts = 1
		}
	}
}

// request returns what the members say together.
func (p *parser) request() Request {
	r := p.r
	if r.EndUser = p.safetyID; r.EndUser == "" {
		r.EndUser = p.user
	}
	r.MaxOutput = p.outputCap()
	if p.kind != Responses {
		r.Choices = max(1, p.n, p.bestOf)
	}
	if p.kind == Completions {
		r.Choices *= max(1, p.prompts)
	}
	r.Choices = min(r.Choices, maxChoices)
	if p.messages > 0 {
		r.Messages = p.messages
	}
	if p.inputs > 0 {
		r.Messages = p.inputs
	}
	r.NotAllText = r.NotAllText || r.DataSources || r.Previous != ""
	return r
}

// outputCap returns the output cap that the request names. If the operation has two members
// for it, the larger value counts, because a member that the region ignores must not lower
// the bound.
func (p *parser) outputCap() int64 {
	switch p.kind {
	case Responses:
		return p.maxOutput
	case Completions:
		return p.maxTokens
	default:
		return max(p.maxCompleted, p.maxTokens)
	}
}

// maxChoices is more than any region allows, and small enough that no multiplication
// overflows.
const maxChoices = 1 << 20

// mediaParts are the type names of parts whose tokens do not depend on their bytes.
var mediaParts = map[string]bool{
	`"image_url"`: true, `"input_image"`: true, `"input_audio"`: true, `"input_file"`: true, `"file"`: true, `"file_id"`: true,
	`"item_reference"`: true, `"file_search"`: true, `"mcp"`: true, `"code_interpreter"`: true,
}

// The beginnings of the names of hosted tools that have several versions.
var (
	webSearch = []byte(`"web_search`)
	computer  = []byte(`"computer`)
)

// isMedia reports whether a string is or begins a type name of a part whose tokens do not
// depend on its bytes. Texts that are equal to such a name count too. A name with letters
// that are written as escapes is found by Token.Hides.
func isMedia(text []byte) bool {
	if len(text) < len(`"mcp"`) || len(text) > longestField/2 {
		return false
	}
	return mediaParts[string(text)] || bytes.HasPrefix(text, webSearch) || bytes.HasPrefix(text, computer)
}

func describe(err error) error {
	e, ok := errors.AsType[*jsonscan.Error](err)
	if !ok {
		return err
	}
	what := "is not valid JSON"
	switch e.Mistake {
	case jsonscan.DuplicateName:
		what = "contains a name twice"
	case jsonscan.TooManyNames:
		what = "has more than 65,536 names in its objects"
	case jsonscan.Syntax:
	}
	where := ""
	if e.Pointer != "" {
		where = fmt.Sprintf(" at %s", e.Pointer)
	}
	return fmt.Errorf("the request body %s: line %d, byte %d%s", what, e.Line, e.Offset, where)
}

// positive returns the value of a number rounded up, or 0 if the token is no positive number.
// A number with very many digits counts as a large one.
func positive(t *jsonscan.Token) int64 {
	switch {
	case t.Kind != jsonscan.Number:
		return 0
	case !t.Whole() && t.Text[0] != '-':
		return math.MaxInt32
	}
	if f := gjson.ParseBytes(t.Text); f.Num > 0 {
		return int64(math.Min(math.Ceil(f.Num), math.MaxInt32))
	}
	return 0
}
