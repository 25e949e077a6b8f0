package openai

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Kind says how the gateway handles the body of an operation.
type Kind string

// The kinds of operations. The gateway does not read bodies of the kinds Passed and
// WebSocket.
const (
	Passed      Kind = ""            // passed to a region; tokens are not metered
	Chat        Kind = "chat"        // messages in, choices with messages out
	Completions Kind = "completions" // prompt in, choices with text out
	Embeddings  Kind = "embeddings"  // input in, vectors out; never a stream
	Responses   Kind = "responses"   // input in, output items out
	WebSocket   Kind = "websocket"   // refused, because the Functions host does not support WebSockets
	BodyModel   Kind = "model"       // tokens are not metered, but the member model of the body names the deployment
)

// Metered reports whether the tokens of this kind of operation are counted and limited.
func (k Kind) Metered() bool {
	return k == Chat || k == Completions || k == Embeddings || k == Responses
}

// The two surfaces (forms of the API) of the service.
const (
	Classic = "classic" // /openai/…, with a required api-version
	V1      = "v1"      // /openai/v1/…, with an optional api-version; the body names the deployment
)

// Operation is one row of operations.json. ID is the operationId of the specification. For
// ids that saved queries depend on, it has the spelling that API Management logs.
type Operation struct {
	Surface string `json:"surface"`
	Method  string `json:"method"`
	Path    string `json:"path"`
	ID      string `json:"id"`
	Kind    Kind   `json:"kind"`
}

// Match is the operation that a request's method and path stand for.
type Match struct {
	Operation
	Deployment string // from the path; empty = the route has no deployment
	Response   string // id of the stored response in the path; empty = the route has none
}

//go:embed operations.json
var operationsJSON []byte

var table = mustLoad(operationsJSON)

type segment struct {
	literal map[string]*segment
	param   *segment // the parameter at this place of a path; routes may give it different names, but share it
	name    string
	methods map[string]Operation
}

type routes struct {
	all  []Operation         // in the order of operations.json
	tree map[string]*segment // by surface
}

func mustLoad(data []byte) routes {
	r := routes{tree: map[string]*segment{Classic: {}, V1: {}}}
	if err := json.Unmarshal(data, &r.all); err != nil {
		panic("openai: operations.json: " + err.Error())
	}
	for _, op := range r.all {
		if err := r.add(op); err != nil {
			panic("openai: operations.json: " + err.Error())
		}
	}
	return r
}

func (r *routes) add(op Operation) error {
	n := r.tree[op.Surface]
	if n == nil {
		return fmt.Errorf("%s: surface %q is neither classic nor v1", op.ID, op.Surface)
	}
	for seg := range strings.SplitSeq(strings.TrimPrefix(op.Path, "/"), "/") {
		n = n.child(seg)
	}
	if n.methods == nil {
		n.methods = map[string]Operation{}
	}
	if _, dup := n.methods[op.Method]; dup {
		return fmt.Errorf("%s %s is listed twice", op.Method, op.Path)
	}
	n.methods[op.Method] = op
	return nil
}

func (n *segment) child(seg string) *segment {
	if strings.HasPrefix(seg, "{") {
		if n.param == nil {
			n.param = &segment{name: strings.Trim(seg, "{}")}
		}
		return n.param
	}
	if n.literal == nil {
		n.literal = map[string]*segment{}
	}
	if n.literal[seg] == nil {
		n.literal[seg] = &segment{}
	}
	return n.literal[seg]
}

// name records value in m as the path parameter that the segment n stands for. A nil n stands for none.
func (m *Match) name(n *segment, value string) {
	switch {
	case n == nil:
	case n.name == "deployment":
		m.Deployment = value
	case n.name == "response_id":
		m.Response = value
	}
}

// Find returns the operation for a method and a decoded path below /openai, such as
// /deployments/gpt-4o/chat/completions or /v1/responses. If the path exists with other
// methods only, ok is false and allow lists these methods.
func Find(method, path string) (m Match, allow []string, ok bool) {
	surface, rest := Classic, strings.Trim(path, "/")
	if v1, found := strings.CutPrefix(rest, "v1/"); found {
		surface, rest = V1, v1
	}
	n := table.tree[surface]
	for seg := range strings.SplitSeq(rest, "/") {
		next := n.literal[seg]
		if next == nil && seg != "" {
			next = n.param
			m.name(next, seg)
		}
		if next == nil {
			return Match{}, nil, false
		}
		n = next
	}
	if op, found := n.methods[method]; found {
		m.Operation = op
		return m, nil, true
	}
	for name := range n.methods {
		allow = append(allow, name)
	}
	slices.Sort(allow)
	return Match{}, allow, false
}
