package logs

import (
	"bytes"
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/logs/truncate"
)

// content is a body in the form that its column needs: valid JSON, or empty.
type content struct {
	text  string
	whole bool
}

// contentOf returns the content that the record of b contains, or false if the record
// contains none.
func contentOf(b *gateway.Body) (content, bool) {
	value := []byte(b.JSON)
	switch {
	case len(b.Assembled) > 0:
		value = b.Assembled
	case len(value) > 0:
	case b.Text != "":
		quoted, err := jsontext.AppendQuote(nil, b.Text)
		if err != nil {
			return content{}, false
		}
		value = quoted
	case len(b.Base64) > 0:
		n := placeholderFor(b)
		n.Note = "The body is binary."
		return n.content(), true
	default:
		return content{whole: b.Size == 0}, b.Size == 0
	}
	return truncated(value)
}

func truncated(value []byte) (content, bool) {
	text, ok := truncate.JSON(value)
	return content{text: string(text), whole: ok && len(value) <= truncate.MaxSize}, ok
}

// placeholder replaces a body that is not in the row. Queries over bodies find object,
// model and usage in it under the same names as in a body.
type placeholder struct {
	Object      string          `json:"object,omitempty"`
	Model       string          `json:"model,omitempty"`
	Usage       json.RawMessage `json:"usage,omitempty"`
	ContentType string          `json:"contentType,omitempty"`
	Size        int64           `json:"size"`
	SHA256      string          `json:"sha256,omitempty"`
	Note        string          `json:"note"`
}

func (n placeholder) content() content {
	text, err := json.Marshal(n)
	if err != nil { // cannot happen: the value consists of strings, numbers and JSON that we wrote
		return content{}
	}
	return content{text: string(text)}
}

func placeholderFor(b *gateway.Body) placeholder {
	n := placeholder{ContentType: short(b.ContentType, 256), Size: b.Size, SHA256: b.SHA256, Note: "The body is not in this row."}
	if b.Blob != "" {
		n.Note = "The body is in " + b.Blob + "."
	}
	return n
}

// objects has the value of "object" in the answers of each operation.
var objects = map[string]string{
	"completions_create": "text_completion", "ChatCompletions_Create": "chat.completion", "embeddings_create": "list",
}

// usageJSON returns usage as JSON, with the member names that the operation uses in its
// answers.
func usageJSON(id string, u gateway.Usage) json.RawMessage {
	if u == (gateway.Usage{}) {
		return nil
	}
	in, out := "prompt_tokens", "completion_tokens"
	if _, classic := objects[id]; !classic {
		in, out = "input_tokens", "output_tokens"
	}
	v := map[string]any{in: u.Prompt, out: u.Completion, "total_tokens": u.Total}
	if u.Cached > 0 {
		v[in+"_details"] = map[string]int64{"cached_tokens": u.Cached}
	}
	if u.Reasoning > 0 {
		v[out+"_details"] = map[string]int64{"reasoning_tokens": u.Reasoning}
	}
	if u.Estimated {
		v["estimated"] = true
	}
	raw, err := json.Marshal(v)
	if err != nil { // cannot happen: the value consists of numbers
		return nil
	}
	return raw
}

// withUsage adds the record's usage to the object of a stream that reported no usage, so
// that queries over bodies count it too. The added usage is marked as estimated.
func withUsage(object []byte, id string, u gateway.Usage) []byte {
	usage := usageJSON(id, u)
	if usage == nil || gjson.GetBytes(object, "usage").IsObject() {
		return object
	}
	full, err := sjson.SetRawBytes(object, "usage", usage)
	if err != nil {
		return object
	}
	return full
}

// contentFilter returns the results of the service's content filter for prompt and answer.
func contentFilter(b *gateway.Body) json.RawMessage {
	if b == nil {
		return nil
	}
	body := []byte(b.JSON)
	if len(b.Assembled) > 0 {
		body = b.Assembled
	}
	if !bytes.Contains(body, []byte(`"content_filter_result`)) && !bytes.Contains(body, []byte(`"prompt_filter_results"`)) {
		return nil
	}
	found := []byte("{}")
	add := func(name, path string) {
		if v := gjson.GetBytes(body, path); v.Exists() && v.Raw != "[]" && len(v.Raw) <= maxFilter {
			found, _ = sjson.SetRawBytes(found, name, []byte(v.Raw))
		}
	}
	add("prompt", "prompt_filter_results")
	add("choices", "choices.#.content_filter_results")
	add("error", "error.innererror.content_filter_result")
	if string(found) == "{}" {
		return nil
	}
	return found
}

const maxFilter = 8 << 10
