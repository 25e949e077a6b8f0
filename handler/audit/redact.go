package audit

import (
	"crypto/sha256"
	"io"
	"strings"

	"aoaigateway/handler/body"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/redact"
)

// redactBody returns body without personal data, and the number of matches. A nil rules
// means that there are no rules.
func redactBody(rules *redact.Rules, contentType string, body []byte) ([]byte, int) {
	switch {
	case rules == nil:
		return body, 0
	case jsonLike(contentType):
		return rules.JSON(body)
	}
	return rules.Text(body)
}

// redactTo writes a body without personal data to w, and returns the number of matches.
func redactTo(w io.Writer, rules *redact.Rules, contentType string, b *body.Body) (found int, err error) {
	redactor := rules.Writer(w, jsonLike(contentType))
	if _, err = io.Copy(redactor, b.Reader()); err == nil {
		err = redactor.Close()
	}
	return redactor.Count(), err
}

// digestRedacted returns size and hash of a body without personal data, and the number of
// matches.
func digestRedacted(rules *redact.Rules, contentType string, b *body.Body) (*gateway.Digest, int) {
	w := &hashingWriter{w: io.Discard, hash: sha256.New()}
	found, _ := redactTo(w, rules, contentType, b) // if the body cannot be read, storing it fails too
	return w.sum(), found
}

// readRedacted returns a reader of a body without personal data. The caller must call done
// when it stops reading.
func readRedacted(rules *redact.Rules, contentType string, b *body.Body) (content io.Reader, done func()) {
	r, w := io.Pipe()
	go func() {
		_, err := redactTo(w, rules, contentType, b)
		_ = w.CloseWithError(err)
	}()
	return r, func() { _ = r.Close() }
}

// jsonLike reports whether a body of this content type may be a JSON value.
func jsonLike(contentType string) bool {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	kind = strings.TrimSpace(kind)
	return kind == "" || strings.HasSuffix(kind, "/json") || strings.HasSuffix(kind, "+json")
}
