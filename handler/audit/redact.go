package audit

import (
	"strings"

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

// jsonLike reports whether a body of this content type may be a JSON value.
func jsonLike(contentType string) bool {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	kind = strings.TrimSpace(kind)
	return kind == "" || strings.HasSuffix(kind, "/json") || strings.HasSuffix(kind, "+json")
}
