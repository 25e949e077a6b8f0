package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"aoaigateway/handler/gateway"
)

// amendment is all an Amend line has.
type amendment struct {
	Type    gateway.LineType `json:"type"`
	ID      string           `json:"id"`
	Time    time.Time        `json:"time"`
	Outcome gateway.Outcome  `json:"outcome"`
}

func (l *Log) amend(rec *gateway.Record) []byte {
	line, _ := json.Marshal(amendment{gateway.Amend, rec.ID, rec.Time, rec.Outcome}) // cannot fail
	return line
}

// encode renders rec; the request's inline content only when whole is set. Bodies are
// copied in by hand: encoding/json would rewrite their escapes.
func (l *Log) encode(t gateway.LineType, rec *gateway.Record, whole bool) ([]byte, error) {
	head := gateway.Line{Type: t, Relaxed: l.o.Relaxed, Record: *rec}
	head.Request, head.Response = nil, nil
	buf := bytes.NewBuffer(make([]byte, 0, 1024+inlineSize(rec.Request, whole)+inlineSize(rec.Response, true)))
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(head); err != nil {
		return nil, err
	}
	line := bytes.TrimSuffix(buf.Bytes(), []byte("}\n"))
	line = appendBody(line, "request", rec.Request, whole)
	line = appendBody(line, "response", rec.Response, true)
	return append(line, '}'), nil
}

func inlineSize(b *gateway.Body, whole bool) int {
	if b == nil || !whole {
		return 256
	}
	return 256 + len(b.JSON) + len(b.Text)*5/4 + base64.StdEncoding.EncodedLen(len(b.Base64)) + len(b.Assembled)
}

// appendBody appends b as a further member of the object in dst.
func appendBody(dst []byte, name string, b *gateway.Body, whole bool) []byte {
	if b == nil {
		return dst
	}
	dst = append(dst, `,"`+name+`":{"size":`...)
	dst = strconv.AppendInt(dst, b.Size, 10)
	dst = appendString(dst, "sha256", b.SHA256)
	dst = appendString(dst, "contentType", b.ContentType)
	dst = appendString(dst, "blob", b.Blob)
	if s := b.Stored; s != nil {
		dst = append(dst, `,"stored":{"size":`...)
		dst = append(appendString(strconv.AppendInt(dst, s.Size, 10), "sha256", s.SHA256), '}')
	}
	if whole {
		dst = appendRaw(dst, "json", b.JSON)
		dst = appendString(dst, "text", b.Text)
		if len(b.Base64) > 0 {
			dst = append(dst, `,"base64":"`...)
			dst = base64.StdEncoding.AppendEncode(dst, b.Base64)
			dst = append(dst, '"')
		}
		dst = appendRaw(dst, "assembled", b.Assembled)
	}
	return append(dst, '}')
}

func appendString(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, `,"`+name+`":`...)
	dst, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(value, "\uFFFD")) // fails for invalid UTF-8 only
	return dst
}

func appendRaw(dst []byte, name string, value json.RawMessage) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(dst, `,"`+name+`":`...)
	return append(dst, value...)
}

// maxInline is the largest body that stands in its record.
const maxInline = 1 << 20

// fill puts body, at most maxInline long, into b. b may keep a part of body.
func fill(b *gateway.Body, body []byte) {
	switch value, ok := oneLine(body); {
	case len(body) == 0:
	case ok:
		b.JSON = value
	case readable(body):
		b.Text = string(body)
	default:
		b.Base64 = body
	}
}

// jsonLike tells whether a body of this content type may be one JSON value.
func jsonLike(contentType string) bool {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	kind = strings.TrimSpace(kind)
	return kind == "" || strings.HasSuffix(kind, "/json") || strings.HasSuffix(kind, "+json")
}

// oneLine returns body as one JSON value without line breaks, and false if it is none. In
// a valid value they can stand between tokens only. Duplicate names are refused, so that
// every reader of the journal reads the same.
func oneLine(body []byte) (json.RawMessage, bool) {
	body = bytes.Trim(body, " \t\r\n")
	if !jsontext.Value(body).IsValid() {
		return nil, false
	}
	if bytes.IndexByte(body, '\n') < 0 && bytes.IndexByte(body, '\r') < 0 {
		return body, true
	}
	return bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, body), true
}

// readable reports whether body is text, and if it is long, text whose escapes cost no
// more than base64 would: two bodies must fit one line of the journal.
func readable(body []byte) bool {
	if !utf8.Valid(body) {
		return false
	}
	if len(body) < 64<<10 {
		return true
	}
	escapes := 0
	for _, c := range body {
		switch {
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t':
			escapes++
		case c < ' ':
			escapes += 5
		}
	}
	return escapes <= len(body)/3
}

func hexSum(sum []byte) string { return hex.EncodeToString(sum) }
