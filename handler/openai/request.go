package openai

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"
)

// Request is what the gateway reads of a metered request. Fields of an unexpected type
// count as absent: refusing them is the region's business, in its own words.
type Request struct {
	Model        string
	Stream       bool
	IncludeUsage bool // the client asked for usage itself
	DataSources  bool // "on your data": stream_options is refused there
	Background   bool // a Responses call that ends after its answer
	EndUser      string
	Previous     string // previous_response_id
	MaxOutput    int64  // output cap of one choice; 0 = none named
	Choices      int64  // n or best_of, at least 1
	PromptBytes  int64  // JSON bytes of everything that becomes prompt
	Messages     int64
	NotAllText   bool // images, audio, files or stored context: bytes do not bound its tokens
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
	ResponseFormat   jsontext.Value `json:"response_format"`
	Text             jsontext.Value `json:"text"`
}

// ParseRequest reads a metered request's body. It refuses what two parsers could read
// differently: a name given twice, invalid UTF-8, anything after the object. The error
// says where.
func ParseRequest(kind Kind, body []byte) (Request, error) {
	var f requestFields
	if err := json.Unmarshal(body, &f); err != nil {
		return Request{}, describe(body, err)
	}
	r := Request{
		Model:        str(f.Model),
		Stream:       kind != Embeddings && isTrue(f.Stream),
		IncludeUsage: gjson.GetBytes(f.StreamOptions, "include_usage").Type == gjson.True,
		DataSources:  len(f.DataSources) > 0 || len(f.LegacySources) > 0,
		Background:   isTrue(f.Background),
		EndUser:      str(f.SafetyIdentifier),
		Previous:     str(f.Previous),
		MaxOutput:    firstPositive(f.MaxCompletion, f.MaxOutput, f.MaxTokens),
		Choices:      max(1, firstPositive(f.N), firstPositive(f.BestOf)),
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

func (r *Request) measure(kind Kind, f *requestFields) {
	for _, v := range []jsontext.Value{f.Messages, f.Input, f.Prompt, f.Suffix, f.Instructions, f.Tools, f.Functions, f.ResponseFormat, f.Text} {
		r.PromptBytes += int64(len(v))
		r.NotAllText = r.NotAllText || hasMedia(v)
	}
	r.NotAllText = r.NotAllText || r.DataSources || r.Previous != "" || len(f.Conversation) > 4 ||
		(kind == Responses && len(f.Prompt) > 4) // a stored prompt template
	if kind == Completions && len(f.Prompt) > 0 && f.Prompt[0] == '[' {
		r.Choices *= max(1, countPrompts(f.Prompt))
	}
	r.Messages = 1
	if n := gjson.ParseBytes(f.Messages).Get("#").Int(); n > 0 {
		r.Messages = n
	}
	if n := gjson.ParseBytes(f.Input).Get("#").Int(); n > 0 {
		r.Messages = n
	}
}

// countPrompts tells a batch of prompts (strings or token arrays) from one prompt of tokens.
func countPrompts(v jsontext.Value) int64 {
	list := gjson.ParseBytes(v)
	if list.Get("0").Type == gjson.Number {
		return 1
	}
	return list.Get("#").Int()
}

// The part types whose tokens have nothing to do with their bytes. A quoted word inside
// a prompt is escaped, so that it cannot look like these.
var mediaParts = []string{`"image_url"`, `"input_image"`, `"input_audio"`, `"input_file"`, `"file"`, `"file_id"`, `"item_reference"`, `"file_search"`, `"web_search`, `"computer`, `"mcp"`, `"code_interpreter"`}

func hasMedia(v jsontext.Value) bool {
	if len(v) < 8 || v[0] == '"' {
		return false
	}
	for _, p := range mediaParts {
		if strings.Contains(string(v), p) {
			return true
		}
	}
	return false
}

func describe(body []byte, err error) error {
	what := "is not valid JSON"
	if errors.Is(err, jsontext.ErrDuplicateName) {
		what = "names a member twice"
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
		return errors.New("the request body must be a JSON object")
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

func firstPositive(values ...jsontext.Value) int64 {
	for _, v := range values {
		if f := gjson.ParseBytes(v); f.Type == gjson.Number && f.Num > 0 {
			return int64(math.Min(math.Ceil(f.Num), math.MaxInt32))
		}
	}
	return 0
}
