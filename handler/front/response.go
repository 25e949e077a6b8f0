package front

import (
	"net/http"
	"time"
)

// unreadTime is how long the rest of a body that nobody wanted is waited for: net/http
// reads on before it sends a short answer, for as long as the client likes.
const unreadBodyTime = time.Second

// response is the way to the client. It knows whether anything has left, and it gives up
// a client that takes nothing for the length of pace.
type response struct {
	http.ResponseWriter
	control     *http.ResponseController
	idleTimeout time.Duration
	renew       time.Time // when the write deadline is to be moved on; not at each write
	started     bool
}

func newResponse(w http.ResponseWriter, pace time.Duration) *response {
	return &response{ResponseWriter: w, control: http.NewResponseController(w), idleTimeout: pace}
}

// Unwrap lets a http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. The deadline is for the flush that follows, too.
func (w *response) Write(p []byte) (int, error) {
	w.started = true
	if now := time.Now(); now.After(w.renew) {
		_ = w.control.SetWriteDeadline(now.Add(w.idleTimeout))
		w.renew = now.Add(w.idleTimeout / 8)
	}
	return w.ResponseWriter.Write(p)
}

// done leaves the connection to the server: for the unread body, the bytes still
// buffered and the next request, whose read deadline is set anew.
func (w *response) done() {
	_ = w.control.SetWriteDeadline(time.Time{})
	_ = w.control.SetReadDeadline(time.Now().Add(unreadBodyTime))
}
