// Package bodytest makes request bodies for tests.
package bodytest

import (
	"bytes"
	"io"
	"net/http"

	"aoaigateway/handler/body"
)

// Of returns a body with this content, held as the gateway holds it.
func Of(content []byte) *body.Body {
	r := &http.Request{Body: io.NopCloser(bytes.NewReader(content)), ContentLength: int64(len(content))}
	b, err := body.New(body.Options{}).Read(r, "test")
	if err != nil {
		panic(err)
	}
	return b
}
