package aoaisim

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// contents are the parts of a request's body that checks look at.
type contents struct {
	images    int
	longURI   bool     // an image has a data URI that is too long for a project's endpoint
	items     []string // ids of items in the input
	files     []string // ids of files
	encrypted []string
	plain     int // index of a reasoning item with plain text, -1 = none
	textSize  int // characters of the longest message
}

// The limits of a request.
const (
	mostImages        = 50
	mostTools         = 128
	mostMessages      = 2048
	mostInputs        = 2048
	mostCharacters    = 1 << 20
	mostUpload        = 25 << 20
	mostURICharacters = 65_520
	mostInputTokens   = 8192
	mostPairs         = 16
)

// check returns the refusal of a request that Azure would not take.
func (x *exchange) check(q *request) *refusal {
	m := x.region.modelOf(x.deployment)
	if !m.serves(x.route.operation) {
		return &refusal{name: "wrong-model-kind"}
	}
	c := contents{plain: -1}
	c.read(gjson.ParseBytes(x.body), q)
	for _, no := range []*refusal{
		q.tooMuch(c, x.route), x.region.parameters(q, m, x.body), x.region.foreign(q, c), tooLong(q, m, x.route),
	} {
		if no != nil {
			return no
		}
	}
	if c.longURI && x.region.o.Switches.ProjectURIs {
		return &refusal{name: "image-uri-too-long"}
	}
	return nil
}

func (c *contents) read(body gjson.Result, q *request) {
	for _, m := range q.Messages {
		c.textSize = max(c.textSize, len(text(m.Content)))
	}
	for i, item := range body.Get("input").Array() {
		id, kind := item.Get("id").Str, item.Get("type").Str
		if kind != "item_reference" && id != "" || kind == "item_reference" {
			c.items = append(c.items, id)
		}
		if kind == "reasoning" && len(item.Get("content").Array()) > 0 && c.plain < 0 {
			c.plain = i
		}
		if e := item.Get("encrypted_content").Str; e != "" {
			c.encrypted = append(c.encrypted, e)
		}
	}
	c.parts(body.Get("messages"))
	c.parts(body.Get("input"))
}

// parts looks at the parts of all messages.
func (c *contents) parts(messages gjson.Result) {
	for _, m := range messages.Array() {
		for _, part := range m.Get("content").Array() {
			switch part.Get("type").Str {
			case "image_url", "input_image":
				c.images++
				uri := part.Get("image_url")
				if uri.IsObject() {
					uri = uri.Get("url")
				}
				c.longURI = c.longURI || strings.HasPrefix(uri.Str, "data:") && len(uri.Str) > mostURICharacters
			case "file", "input_file":
				for _, id := range []string{part.Get("file_id").Str, part.Get("file.file_id").Str} {
					if id != "" {
						c.files = append(c.files, id)
					}
				}
			}
		}
	}
}

func tooMany(param string, n, limit int) *refusal {
	if n <= limit {
		return nil
	}
	return &refusal{"array-too-long", scene{Param: param, Number: n, Limit: limit}}
}

// tooMuch checks the limits of numbers.
func (q *request) tooMuch(c contents, t route) *refusal {
	if c.images > mostImages {
		return &refusal{"too-many-images", scene{Limit: mostImages}}
	}
	if t.operation == opEmbeddings && len(q.input) > mostInputs {
		return &refusal{"too-many-inputs", scene{Limit: mostInputs}}
	}
	if c.plain >= 0 {
		return &refusal{"array-too-long", scene{Param: "input[" + strconv.Itoa(c.plain) + "].content", Number: 1}}
	}
	for _, no := range []*refusal{
		tooMany("tools", len(q.Tools), mostTools), tooMany("functions", len(q.Functions), mostTools),
		tooMany("messages", len(q.Messages), mostMessages), tooMany("metadata", len(q.Metadata), mostPairs),
		tooLongText("messages", c.textSize, mostCharacters), tooLongText("user", len(q.User), 64),
		tooLongText("safety_identifier", len(q.Safety), 64),
	} {
		if no != nil {
			return no
		}
	}
	return nil
}

func tooLongText(param string, n, limit int) *refusal {
	if n <= limit {
		return nil
	}
	return &refusal{"string-too-long", scene{Param: param, Number: n, Limit: limit}}
}

// parameters checks what the model takes.
func (r *Region) parameters(q *request, m model, body []byte) *refusal {
	for _, name := range slices.Sorted(keysOf(m.Refuses)) {
		if v := gjson.GetBytes(body, name); v.Exists() && v.Type != gjson.Null {
			return &refusal{"unsupported-parameter", scene{Param: name, Text: m.Refuses[name]}}
		}
	}
	if slices.Contains(q.Include, "reasoning.encrypted_content") && models()[m.Name].Name != "" && !m.Reasoning {
		return &refusal{name: "encrypted-content-unsupported"}
	}
	return nil
}

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// tooLong checks the tokens that the model reads.
func tooLong(q *request, m model, t route) *refusal {
	param := map[string]string{opChat: "messages", opResponses: "input"}[t.operation]
	if n := q.promptTokens(); m.Window > 0 && n > m.Window && param != "" {
		return &refusal{"context-length", scene{Param: param, Number: n, Limit: m.Window}}
	}
	if t.operation == opEmbeddings {
		for _, in := range q.input {
			if n := len(in) / 4; n > mostInputTokens {
				return &refusal{"context-length", scene{Param: "input", Number: n, Limit: mostInputTokens}}
			}
		}
	}
	return nil
}

// foreign checks that what the request names was made in this region.
func (r *Region) foreign(q *request, c contents) *refusal {
	if q.Previous != "" && r.objects.find(q.Previous) == nil {
		return &refusal{"previous-response-not-found", scene{Param: q.Previous}}
	}
	for _, e := range c.encrypted {
		if !strings.HasPrefix(e, r.seal()) {
			return &refusal{r.o.Switches.ForeignItem, scene{Param: e[:min(4, len(e))] + "..." + e[max(0, len(e)-4):]}}
		}
	}
	for _, id := range c.items {
		prefix, _, _ := strings.Cut(id, "_")
		if !slices.Contains([]string{"rs", "fc", "msg", "cmp"}, prefix) || !q.stored() {
			continue
		}
		switch o, known := r.objects.look(id); {
		case !known:
			return &refusal{name: "foreign-item"}
		case !o.visible():
			return &refusal{"item-not-found", scene{Param: id}}
		}
	}
	for _, id := range c.files {
		if r.objects.find(id) == nil {
			return &refusal{"object-not-found", scene{Param: id, Text: "file"}}
		}
	}
	if id := conversation(q.Conversation); id != "" && r.objects.find(id) == nil {
		return &refusal{"object-not-found", scene{Param: id, Text: "conversation"}}
	}
	return nil
}

func conversation(raw json.RawMessage) string {
	v := gjson.ParseBytes(bytes.TrimSpace(raw))
	if v.IsObject() {
		return v.Get("id").Str
	}
	return v.Str
}
