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

// MaxInline is the size in bytes of the largest body that is stored in its record. Larger
// bodies are stored in blobs.
const MaxInline = 1 << 20

// Body describes one recorded message body. Its content is in exactly one of JSON, Text,
// Base64, Assembled and Blob; Assembled may also be set beside Blob. An empty body has no
// content, and neither has a body of which only metadata is recorded. Size and SHA256
// describe the bytes on the wire, even if personal data was removed from the content.
type Body struct {
	Size        int64           `json:"size"`   // number of bytes on the wire
	SHA256      string          `json:"sha256"` // SHA-256 of the bytes on the wire, in hex
	ContentType string          `json:"contentType,omitempty"`
	JSON        json.RawMessage `json:"json,omitempty"`      // content that is one JSON value
	Text        string          `json:"text,omitempty"`      // content that is valid UTF-8 but not JSON
	Base64      []byte          `json:"base64,omitempty"`    // any other content
	Blob        string          `json:"blob,omitempty"`      // name of the blob with the content, for bodies over MaxInline
	Assembled   json.RawMessage `json:"assembled,omitempty"` // the object that a stream is equivalent to; Blob may be set too
	Stored      *Digest         `json:"stored,omitempty"`    // digest of the blob's bytes, if they differ from the bytes on the wire
}

// Digest is the size and the SHA-256 (hex) of some bytes.
type Digest struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// DigestOf returns the size and hash of data.
func DigestOf(data []byte) Digest {
	sum := sha256.Sum256(data)
	return Digest{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
}

// InBlob returns the size and hash of the bytes in the blob.
func (b *Body) InBlob() Digest {
	if b.Stored != nil {
		return *b.Stored
	}
	return Digest{Size: b.Size, SHA256: b.SHA256}
}

// HasContent reports whether the record contains the body's content.
func (b *Body) HasContent() bool {
	return b.ContentSize() > 0
}

// ContentSize returns the number of bytes of content that the record contains.
func (b *Body) ContentSize() int {
	return len(b.JSON) + len(b.Text) + len(b.Base64) + len(b.Assembled)
}

// WithoutContent returns a copy of b with the metadata only.
func (b *Body) WithoutContent() *Body {
	return &Body{Size: b.Size, SHA256: b.SHA256, ContentType: b.ContentType}
}

// SetContent stores data, which must not be longer than MaxInline, in the field for its
// kind of content. The Body may keep a reference to data.
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

// CopyContent copies the content from another record's description of the same body.
func (b *Body) CopyContent(from *Body) {
	b.JSON, b.Text, b.Base64 = from.JSON, from.Text, from.Base64
}

// OneLine returns data as a JSON value without line breaks, or false if data is not one
// JSON value. It replaces only line breaks between tokens, because a valid value has no
// others. It returns false for duplicate names, which readers could understand differently.
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

// readable reports whether data should be stored as text. Long text is stored as text only
// if its escapes do not make it longer than base64, because two bodies must fit into one
// line of the journal.
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

// encodedSize returns an upper estimate of the number of bytes that appendTo appends.
func (b *Body) encodedSize(content bool) int {
	if b == nil || !content {
		return 256
	}
	return 256 + len(b.JSON) + len(b.Text)*5/4 + base64.StdEncoding.EncodedLen(len(b.Base64)) + len(b.Assembled)
}

// appendTo appends b as another member of the JSON object in dst. The content is left out
// unless content is true. The result is what encoding/json would make of the struct, except
// that JSON is copied unchanged: encoding/json would change its escapes.
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
	dst, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(value, "\uFFFD")) // fails only for invalid UTF-8, which was replaced
	return dst
}

func appendRaw(dst []byte, name string, value json.RawMessage) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(dst, `,"`+name+`":`...)
	return append(dst, value...)
}
