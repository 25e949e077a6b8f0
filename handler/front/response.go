package front

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/idle"
)

// unreadBodyTime limits the reading of a body that the gateway did not want: net/http
// reads on before it sends a short answer, for as long as the client sends.
const unreadBodyTime = time.Second

// response writes to the client. It knows whether anything has left, and it gives up a
// client that takes nothing for the idle timeout.
type response struct {
	http.ResponseWriter

	control  *http.ResponseController
	deadline idle.Deadline
	started  bool
}

func newResponse(w http.ResponseWriter, idleTimeout time.Duration) *response {
	control := http.NewResponseController(w)
	return &response{ResponseWriter: w, control: control, deadline: idle.NewDeadline(idleTimeout, control.SetWriteDeadline)}
}

// Unwrap lets a http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. The deadline also covers the flush that follows.
func (w *response) Write(p []byte) (int, error) {
	w.started = true
	w.deadline.Extend()
	return w.ResponseWriter.Write(p)
}

// done leaves the connection to the server: for the unread body, for the bytes still
// buffered and for the next request, whose read deadline the server sets anew.
func (w *response) done() {
	w.deadline.Clear()
	_ = w.control.SetReadDeadline(time.Now().Add(unreadBodyTime))
}

// clientBody is a request's body. It gives up a client that sends nothing for the idle
// timeout.
type clientBody struct {
	io.ReadCloser

	deadline idle.Deadline
	limit    time.Duration
}

func newClientBody(w http.ResponseWriter, body io.ReadCloser, idleTimeout time.Duration) *clientBody {
	return &clientBody{body, idle.NewDeadline(idleTimeout, http.NewResponseController(w).SetReadDeadline), idleTimeout}
}

// Read implements io.Reader. At the end of the body the deadline must go, because it would
// end the request's context later. After a failure it stays: net/http would read on.
func (b *clientBody) Read(p []byte) (int, error) {
	b.deadline.Extend()
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.deadline.Clear()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = gateway.BodyBroken.New("The request body stopped for %v. Send it without pauses.", b.limit).WithCause(err)
	}
	return n, err
}
