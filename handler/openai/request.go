package openai

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"
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
}

type requestFields struct {
	Model            jsontext.Value `json:"model"`
	Stream           jsontext.Value `json:"stream"`
	StreamOptions    jsontext.Value `json:"stream_options"`
	DataSources      jsontext.Value `json:"data_sources"`
	LegacySources    jsontext.Value `json:"dataSources"`
	Background       jsontext.Value `json:"background"`
	User             jsontext.Value `json:"user"`
	SafetyIdentifier jsontext.Value `json:"safety_identifier"`
	Previous         jsontext.Value `json:"previous_response_id"`
	Store            jsontext.Value `json:"store"`
	Conversation     jsontext.Value `json:"conversation"`
	MaxTokens        jsontext.Value `json:"max_tokens"`
	MaxCompletion    jsontext.Value `json:"max_completion_tokens"`
	MaxOutput        jsontext.Value `json:"max_output_tokens"`
	N                jsontext.Value `json:"n"`
	BestOf           jsontext.Value `json:"best_of"`
	Messages         jsontext.Value `json:"messages"`
	Input            jsontext.Value `json:"input"`
	Prompt           jsontext.Value `json:"prompt"`
	Suffix           jsontext.Value `json:"suffix"`
	Instructions     jsontext.Value `json:"instructions"`
	Tools            jsontext.Value `json:"tools"`
	Functions        jsontext.Value `json:"functions"`
	Prediction       jsontext.Value `json:"prediction"` // predicted output; its rejected tokens are billed as output
	ResponseFormat   jsontext.Value `json:"response_format"`
	Text             jsontext.Value `json:"text"`
}

// ParseRequest reads the body of a metered request. It refuses bodies that two parsers
// could read differently: duplicate names, invalid UTF-8, anything after the object. The
// error says where.
func ParseRequest(kind Kind, body []byte) (Request, error) {
	var f requestFields
	if err := json.Unmarshal(body, &f, inPlace(body)...); err != nil {
		return Request{}, describe(body, err)
	}
	if body = bytes.TrimLeft(body, " \t\r\n"); body[0] != '{' { // otherwise null would be accepted, because it fits every struct
		return Request{}, errNoObject
	}
	r := Request{
		Model:        str(f.Model),
		Stream:       kind != Embeddings && isTrue(f.Stream),
		IncludeUsage: gjson.GetBytes(f.StreamOptions, "include_usage").Type == gjson.True,
		DataSources:  len(f.DataSources) > 0 || len(f.LegacySources) > 0,
		Background:   isTrue(f.Background),
		EndUser:      str(f.SafetyIdentifier),
		Previous:     str(f.Previous),
		Unstored:     string(f.Store) == "false",
		MaxOutput:    f.outputCap(kind),
		Choices:      max(1, positive(f.N), positive(f.BestOf)),
	}
	if kind == Responses {
		r.Choices = 1
	}
	if r.EndUser == "" {
		r.EndUser = str(f.User)
	}
	r.measure(kind, &f)
	return r, nil
}

// inPlace returns options with which the fields of a long body are slices of it and not
// copies.
func inPlace(body []byte) []json.Options {
	const long = 64 << 10
	if len(body) < long {
		return nil
	}
	return []json.Options{json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, v *jsontext.Value) error {
		value, err := d.ReadValue()
		if end := d.InputOffset(); err == nil {
			*v = body[end-int64(len(value)) : end : end]
		}
		return err
	}))}
}

// outputCap returns the output cap that the request names. If the operation has two members
// for it, the larger value counts, because a member that the region ignores must not lower
// the bound.
func (f *requestFields) outputCap(kind Kind) int64 {
	switch kind {
	case Responses:
		return positive(f.MaxOutput)
	case Completions:
		return positive(f.MaxTokens)
	default:
		return max(positive(f.MaxCompletion), positive(f.MaxTokens))
	}
}

// maxChoices is more than any region allows, and small enough that no multiplication
// overflows.
const maxChoices = 1 << 20

func (r *Request) measure(kind Kind, f *requestFields) {
	for _, v := range []jsontext.Value{
		f.Messages, f.Input, f.Prompt, f.Suffix, f.Instructions, f.Tools, f.Functions, f.Prediction, f.ResponseFormat, f.Text,
	} {
		r.PromptBytes += int64(len(v))
		r.NotAllText = r.NotAllText || hasMedia(v)
	}
	r.NotAllText = r.NotAllText || r.DataSources || r.Previous != "" || len(f.Conversation) > 4 ||
		(kind == Responses && len(f.Prompt) > 4) // the request refers to a stored prompt template
	if kind == Completions && len(f.Prompt) > 0 && f.Prompt[0] == '[' {
		r.Choices *= max(1, countPrompts(f.Prompt))
	}
	r.Choices = min(r.Choices, maxChoices)
	r.Messages = 1
	if n := count(f.Messages); n > 0 {
		r.Messages = n
	}
	if n := count(f.Input); n > 0 {
		r.Messages = n
	}
}

// count returns the length of an array, or 0 if v is no array.
func count(v jsontext.Value) int64 {
	if len(v) == 0 || v[0] != '[' {
		return 0
	}
	return gjson.GetBytes(v, "#").Int()
}

// countPrompts returns how many prompts an array has. An array of numbers is one prompt,
// given as tokens.
func countPrompts(v jsontext.Value) int64 {
	if gjson.GetBytes(v, "0").Type == gjson.Number {
		return 1
	}
	return count(v)
}

// mediaParts are the beginnings of the type names of parts whose tokens do not depend on
// their bytes. They cannot occur in the text of a prompt, because quotes are escaped there.
var mediaParts = [][]byte{
	[]byte(`image_url"`), []byte(`input_image"`), []byte(`input_audio"`), []byte(`input_file"`), []byte(`file"`), []byte(`file_id"`),
	[]byte(`item_reference"`), []byte(`file_search"`), []byte(`web_search`), []byte(`computer`), []byte(`mcp"`), []byte(`code_interpreter"`),
}

func hasMedia(v jsontext.Value) bool {
	if len(v) < 8 || v[0] == '"' {
		return false
	}
	for rest := []byte(v); ; {
		i := bytes.IndexByte(rest, '"')
		if i < 0 {
			return hidesNames(v)
		}
		rest = rest[i+1:]
		for _, p := range mediaParts {
			if bytes.HasPrefix(rest, p) {
				return true
			}
		}
	}
}

// hidesNames reports whether v has letters written as \u escapes. No usual encoder writes
// them, and they could hide a name in mediaParts.
func hidesNames(v []byte) bool {
	for {
		i := bytes.Index(v, []byte(`\u00`))
		if i < 0 || len(v) < i+6 {
			return false
		}
		if c := v[i+4]; c >= '4' && c <= '7' {
			return true
		}
		v = v[i+6:]
	}
}

var errNoObject = errors.New("the request body must be a JSON object")

func describe(body []byte, err error) error {
	what := "is not valid JSON"
	if errors.Is(err, jsontext.ErrDuplicateName) {
		what = "contains a name twice"
	}
	if s, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		at := s.ByteOffset
		line := 1 + strings.Count(string(body[:min(int(at), len(body))]), "\n")
		where := ""
		if s.JSONPointer != "" {
			where = fmt.Sprintf(" at %s", s.JSONPointer)
		}
		return fmt.Errorf("the request body %s: line %d, byte %d%s", what, line, at, where)
	}
	if s, ok := errors.AsType[*json.SemanticError](err); ok && s.JSONPointer == "" {
		return errNoObject
	}
	return fmt.Errorf("the request body %s", what)
}

func str(v jsontext.Value) string {
	if len(v) == 0 || v[0] != '"' {
		return ""
	}
	s, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return ""
	}
	return string(s)
}

func isTrue(v jsontext.Value) bool { return string(v) == "true" }

func positive(v jsontext.Value) int64 {
	if f := gjson.ParseBytes(v); f.Type == gjson.Number && f.Num > 0 {
		return int64(math.Min(math.Ceil(f.Num), math.MaxInt32))
	}
	return 0
}
