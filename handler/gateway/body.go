package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxInline is the size in bytes of the largest body that stands in its record. Larger bodies are blobs.
const MaxInline = 1 << 20

// Body is one recorded message body. Its content is in exactly one of JSON, Text, Base64, Assembled and Blob; an
// empty body and one recorded as metadata only have none. Size and SHA256 are those of the bytes on the wire, even
// where personal data was taken out of the content.
type Body struct {
	Size        int64           `json:"size"`   // bytes on the wire
	SHA256      string          `json:"sha256"` // hex, of the bytes on the wire
	ContentType string          `json:"contentType,omitempty"`
	JSON        json.RawMessage `json:"json,omitempty"`      // a whole JSON value
	Text        string          `json:"text,omitempty"`      // valid UTF-8 that is no JSON
	Base64      []byte          `json:"base64,omitempty"`    // anything else
	Blob        string          `json:"blob,omitempty"`      // name below bodies/, for bodies over MaxInline
	Assembled   json.RawMessage `json:"assembled,omitempty"` // a stream as the equivalent whole object; it may stand beside Blob
	Stored      *Digest         `json:"stored,omitempty"`    // of the blob's bytes, if those differ from the bytes on the wire
}

// Digest is the size and the SHA-256 (hex) of some bytes.
type Digest struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// DigestOf returns the digest of data.
func DigestOf(data []byte) Digest {
	sum := sha256.Sum256(data)
	return Digest{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
}

// InBlob returns the digest of the bytes that Blob holds.
func (b *Body) InBlob() Digest {
	if b.Stored != nil {
		return *b.Stored
	}
	return Digest{Size: b.Size, SHA256: b.SHA256}
}

// HasContent reports whether the record itself holds the body's content.
func (b *Body) HasContent() bool {
	return b.ContentSize() > 0
}

// ContentSize returns the bytes of content that the record itself holds.
func (b *Body) ContentSize() int {
	return len(b.JSON) + len(b.Text) + len(b.Base64) + len(b.Assembled)
}

// WithoutContent returns the body as metadata only.
func (b *Body) WithoutContent() *Body {
	return &Body{Size: b.Size, SHA256: b.SHA256, ContentType: b.ContentType}
}

// SetContent stores data, at most MaxInline bytes, in the field that fits it. The body may keep a part of data.
func (b *Body) SetContent(data []byte) {
	switch value, ok := OneLine(data); {
	case len(data) == 0:
	case ok:
		b.JSON = value
	case readable(data):
		b.Text = string(data)
	default:
		b.Base64 = data
	}
}

// CopyContent takes the content of the same body from another record.
func (b *Body) CopyContent(from *Body) {
	b.JSON, b.Text, b.Base64 = from.JSON, from.Text, from.Base64
}

// OneLine returns data as one JSON value without line breaks, or false if it is none. In a valid value line breaks
// stand between tokens only. Duplicate names are refused, so that all readers of the journal read the same.
func OneLine(data []byte) (json.RawMessage, bool) {
	data = bytes.Trim(data, " \t\r\n")
	if !jsontext.Value(data).IsValid() {
		return nil, false
	}
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		return data, true
	}
	return bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, data), true
}

// readable reports whether data is text. Long text counts only if its escapes cost no more than base64 would: two
// bodies must fit one line of the journal.
func readable(data []byte) bool {
	if !utf8.Valid(data) {
		return false
	}
	if len(data) < 64<<10 {
		return true
	}
	escapes := 0
	for _, c := range data {
		switch {
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t':
			escapes++
		case c < ' ':
			escapes += 5
		}
	}
	return escapes <= len(data)/3
}

// encodedSize returns an upper estimate of what appendTo appends.
func (b *Body) encodedSize(content bool) int {
	if b == nil || !content {
		return 256
	}
	return 256 + len(b.JSON) + len(b.Text)*5/4 + base64.StdEncoding.EncodedLen(len(b.Base64)) + len(b.Assembled)
}

// appendTo appends b as a further member of the object in dst, without its content unless content is set. It does
// what the struct's tags say, but copies JSON as it is: encoding/json would rewrite its escapes.
func (b *Body) appendTo(dst []byte, name string, content bool) []byte {
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
	if content {
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
