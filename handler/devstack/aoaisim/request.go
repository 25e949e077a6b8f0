package aoaisim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// request has the parts of a request that the simulated models use.
type request struct {
	Model     string          `json:"model"`
	Stream    bool            `json:"stream"`
	Options   *streamOptions  `json:"stream_options"`
	Messages  []message       `json:"messages"`
	Prompt    json.RawMessage `json:"prompt"`
	Input     json.RawMessage `json:"input"`
	MaxTokens *int            `json:"max_tokens"`
	MaxCompl  *int            `json:"max_completion_tokens"`
	MaxOutput *int            `json:"max_output_tokens"`
	N         int             `json:"n"`
	BestOf    int             `json:"best_of"`
	Seed      int64           `json:"seed"`
	Previous  string          `json:"previous_response_id"`
	Encoding  string          `json:"encoding_format"`
	Dims      int             `json:"dimensions"`
	Sources   json.RawMessage `json:"data_sources"`

	Tools        []json.RawMessage `json:"tools"`
	Functions    []json.RawMessage `json:"functions"`
	Include      []string          `json:"include"`
	Instructions json.RawMessage   `json:"instructions"`
	Metadata     map[string]string `json:"metadata"`
	Store        *bool             `json:"store"`
	Background   bool              `json:"background"`
	Conversation json.RawMessage   `json:"conversation"`
	User         string            `json:"user"`
	Safety       string            `json:"safety_identifier"`

	model model
	text  string // all text of the prompt
	parts int    // number of messages, prompts or inputs
	input []string
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type message struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// refusal is a request that the region refuses: the scenario, and what it has to say.
type refusal struct {
	name  string
	scene scene
}

func missing(param string) *refusal {
	return &refusal{"missing-parameter", scene{Param: param}}
}

func bodyModel(body []byte) string {
	var m struct {
		Model string `json:"model"`
	}
	_ = json.Unmarshal(body, &m)
	return m.Model
}

func parseRequest(body []byte, t route) (*request, *refusal) {
	q := &request{}
	if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) || json.Unmarshal(body, q) != nil {
		return nil, &refusal{name: "not-json"}
	}
	if e := q.streamOptionsError(t); e != nil {
		return nil, e
	}
	if e := q.readPrompt(t); e != nil {
		return nil, e
	}
	q.text = strings.Join(q.input, "\n")
	q.parts = len(q.input)
	q.N = max(1, q.N)
	return q, nil
}

func (q *request) streamOptionsError(t route) *refusal {
	switch {
	case q.Options == nil || t.operation == opResponses:
		return nil
	case len(q.Sources) > 0:
		return &refusal{name: "stream-options-with-data"}
	case !t.v1 && t.apiVersion < "2024-09-01-preview":
		if t.operation == opChat {
			return &refusal{name: "unknown-stream-options"}
		}
		return &refusal{name: "unrecognized-stream-options"}
	case !q.Stream:
		return &refusal{name: "stream-options-without-stream"}
	}
	return nil
}

func (q *request) readPrompt(t route) *refusal {
	switch t.operation {
	case opChat:
		if len(q.Messages) == 0 {
			return missing("messages")
		}
		for _, m := range q.Messages {
			q.input = append(q.input, text(m.Content))
		}
	case opCompletions:
		q.input = texts(q.Prompt)
		if len(q.input) == 0 {
			q.input = []string{"<|endoftext|>"}
		}
	default:
		if q.input = texts(q.Input); len(q.input) == 0 {
			return missing("input")
		}
	}
	return nil
}

// texts returns the texts of a prompt or input, which may be a string, several strings,
// token numbers or message items.
func texts(raw json.RawMessage) []string {
	var one string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		return []string{one}
	}
	var many []json.RawMessage
	_ = json.Unmarshal(raw, &many)
	var out []string
	for _, item := range many {
		out = append(out, text(item))
	}
	return out
}

// text joins all text in a string, a content part, a message or a list of these.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var part struct {
		Text    string          `json:"text"`
		Content json.RawMessage `json:"content"`
	}
	if json.Unmarshal(raw, &part) == nil && (part.Text != "" || part.Content != nil) {
		return part.Text + text(part.Content)
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && len(list) > 0 {
		var b strings.Builder
		for _, item := range list {
			b.WriteString(text(item))
		}
		return b.String()
	}
	return string(raw)
}

// outputCap is the most output tokens that the caller allows, 0 if it named no cap.
func (q *request) outputCap() int {
	for _, n := range []*int{q.MaxCompl, q.MaxOutput, q.MaxTokens} {
		if n != nil {
			return *n
		}
	}
	return 0
}

// estimate returns the tokens that the limiter charges when the request arrives. Nothing is
// charged for the output if the request sets no limit for it.
func (r *Region) estimate(q *request) int {
	output := q.outputCap() * max(q.N, q.BestOf)
	if r.o.Switches.MaxTokensOnly {
		return max(16, output)
	}
	return q.promptTokens() + output
}

func (q *request) promptTokens() int { return (len(q.text)+3)/4 + 4*q.parts }

var directive = regexp.MustCompile(`\[(tokens|reasoning|cached):(\d{1,7})\]`)

// directives returns the counts that the prompt asks for, as in [tokens:N]; -1 = the prompt
// does not say.
func (q *request) directives() (tokens, reasoning, cached int) {
	found := map[string]int{"tokens": -1, "reasoning": -1, "cached": -1}
	for _, m := range directive.FindAllStringSubmatch(q.text, -1) {
		found[m[1]], _ = strconv.Atoi(m[2])
	}
	return found["tokens"], found["reasoning"], found["cached"]
}

var scenarioDirective = regexp.MustCompile(`\[scenario:([a-z0-9/-]+)\]`)

// scenario returns the scenario that the prompt asks for.
func (q *request) scenario() string {
	if m := scenarioDirective.FindStringSubmatch(q.text); m != nil {
		return m[1]
	}
	return ""
}

// stored reports whether the answer is stored.
func (q *request) stored() bool { return q.Store == nil || *q.Store }

// tool returns the name of the first tool.
func (q *request) tool() string {
	for _, raw := range q.Tools {
		if name := gjson.GetManyBytes(raw, "name", "function.name"); name[0].Str != "" || name[1].Str != "" {
			return cmp.Or(name[0].Str, name[1].Str)
		}
	}
	return "get_weather"
}
