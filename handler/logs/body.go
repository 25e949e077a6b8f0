package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"aoaigateway/handler/gateway"
)

// content is a body as its column has it: valid JSON, or nothing.
type content struct {
	text  string
	whole bool
}

// contentOf is what stands in the record of b; false when nothing does.
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
	text, ok := Truncate(value)
	return content{text: string(text), whole: ok && len(value) <= maxValue}, ok
}

// note is what stands in the place of a body that is not in the row, in the members under
// which queries look for a body's own.
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
	if err != nil { // strings, numbers, and JSON of ours
		return content{}
	}
	return content{text: string(text)}
}

func placeholderFor(b *gateway.Body) placeholder {
	n := placeholder{ContentType: short(b.ContentType, 256), Size: b.Size, SHA256: b.SHA256, Note: "The body is not kept here."}
	if b.Blob != "" {
		n.Note = "The body is in " + b.Blob + "."
	}
	return n
}

// objects are the answers' own "object" by operation.
var objects = map[string]string{
	"completions_create": "text_completion", "ChatCompletions_Create": "chat.completion", "embeddings_create": "list",
}

// usageJSON spells usage as the operation's answers do.
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
	if err != nil { // numbers
		return nil
	}
	return raw
}

// withUsage gives a stream's object the record's usage when the stream brought none, so
// that queries over bodies count it too; the usage says that it is estimated.
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

// contentFilter collects what the service's content filter said of prompt and answer.
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

// The bounds of reading a large body back: of the blob, of one string and of all that is
// kept before it is shortened.
const (
	maxBlob       = 128 << 20
	maxBlobString = 16 << 10
	maxBlobKept   = 4 << 20
)

var errUnfit = errors.New("logs: the body is too large to be shortened in passing")

// condense reads JSON from r in one pass and bounded memory, cutting long strings short.
// The result is as valid as what was read.
func truncateStream(r io.Reader) ([]byte, error) {
	c := streamTruncator{out: make([]byte, 0, 64<<10)}
	buf := make([]byte, 64<<10)
	for total := 0; ; {
		n, err := r.Read(buf)
		if total += n; total > maxBlob {
			return nil, errUnfit
		}
		for _, b := range buf[:n] {
			c.byte(b)
		}
		switch {
		case len(c.out) > maxBlobKept:
			return nil, errUnfit
		case errors.Is(err, io.EOF):
			return c.out, nil
		case err != nil:
			return nil, err
		}
	}
}

// condenser copies bytes until a string is too long, then drops the rest of that string.
type streamTruncator struct {
	out     []byte
	inside  bool // a string
	escaped bool // the next byte belongs to a backslash
	start   int  // in out, of the string's first byte
	gone    int
}

func (c *streamTruncator) byte(b byte) {
	switch {
	case !c.inside:
		c.out = append(c.out, b)
		c.inside, c.start, c.gone = b == '"', len(c.out), 0
		return
	case c.escaped:
		c.escaped = false
	case b == '\\':
		c.escaped = true
	case b == '"':
		c.end()
		return
	}
	if len(c.out)-c.start < maxBlobString {
		c.out = append(c.out, b)
	} else {
		c.gone++
	}
}

func (c *streamTruncator) end() {
	c.inside = false
	if c.gone > 0 {
		cut := c.out[c.start:]
		keep := wholeChars(cut)
		c.gone += len(cut) - keep
		c.out = append(c.out[:c.start+keep], omitted(c.gone, "bytes")...)
	}
	c.out = append(c.out, '"')
}

// wholeUnits is how much of s, cut anywhere, ends with a whole character.
func wholeChars(s []byte) int {
	i := 0
	for i+maxCharLength <= len(s) {
		i += charLength(s[i:])
	}
	return i
}
