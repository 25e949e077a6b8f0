package front

import (
	"net/http"
	"net/url"
	"strings"

	"aoaigateway/handler/gateway"
)

// maxHeader is the largest size in bytes of a request's URL and headers (names and values)
// together. http.Server must accept more than that, so that the gateway itself refuses the
// request and records it.
const maxHeader = 64 << 10

// trimSlashes reduces the slashes at the beginning of a path to one, because some clients send two.
func trimSlashes(path string) string { return "/" + strings.TrimLeft(path, "/") }

// checkPath refuses paths that two programs could understand differently.
func checkPath(u *url.URL) error {
	escaped := strings.ToLower(u.EscapedPath())
	for _, bad := range []string{"%2f", "%5c", "%00", "%25", "\\"} {
		if strings.Contains(escaped, bad) {
			return badPath()
		}
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")
	for seg := range strings.SplitSeq(inner, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return badPath()
		}
	}
	return nil
}

func badPath() error {
	return gateway.OperationNotFound.New(
		"%s A path must not hold encoded slashes, backslashes, empty segments or dot segments.", gateway.OperationNotFound.Message)
}

func checkHeader(r *http.Request) error {
	n := len(r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	if n > maxHeader {
		return gateway.RequestHeaderFieldsTooLarge.New(
			"The URL and the headers of the request are %d bytes long; at most %d are allowed.", n, maxHeader)
	}
	return nil
}
