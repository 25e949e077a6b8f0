package front

import (
	"context"
	"net/http"
	"time"

	"aoaigateway/handler/idle"
)

// unreadBodyTime limits how long net/http reads the rest of an unread request body before
// it sends a short answer. Without a limit the client could prolong this at will.
const unreadBodyTime = time.Second

// response writes to the client. It knows whether the answer has begun, and fails when the
// client accepts nothing for the idle timeout. After an answer to a request whose body was
// not read, it drains the body.
type response struct {
	http.ResponseWriter

	control  *http.ResponseController
	deadline idle.Deadline
	body     *clientBody
	started  bool
	aborted  bool // the connection is being aborted
}

func newResponse(w http.ResponseWriter, r *http.Request, idleTimeout time.Duration) *response {
	control := http.NewResponseController(w)
	return &response{
		ResponseWriter: w, control: control, deadline: idle.NewDeadline(idleTimeout, control.SetWriteDeadline),
		body: newClientBody(r, control, idleTimeout),
	}
}

// Unwrap lets an http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	w.start()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. The deadline that it sets also covers the flush
// that follows.
func (w *response) Write(p []byte) (int, error) {
	w.start()
	w.deadline.Extend()
	return w.ResponseWriter.Write(p)
}

func (w *response) start() {
	if w.started {
		return
	}
	w.started = true
	if w.body.unread() {
		_ = w.control.EnableFullDuplex() // otherwise net/http reads a part of the body before it sends the answer
	}
}

// abortDelay is the time between the last bytes of an answer and the reset that aborts it.
// Without it the Functions host can lose the bytes.
const abortDelay = 50 * time.Millisecond

// flushBeforeAbort sends the bytes that are still buffered and waits for abortDelay.
func (w *response) flushBeforeAbort(ctx context.Context) {
	if !w.started || ctx.Err() != nil {
		return
	}
	_ = w.control.Flush() // an error does not matter: the connection is aborted next
	time.Sleep(abortDelay)
}

// done sends the answer and drains the request's body. Then it removes the write deadline and
// limits how long the server reads the rest of the body. For the next request the server sets
// its own read deadline.
func (w *response) done() {
	if w.started && !w.aborted && w.body.unread() {
		_ = w.control.Flush() // an error does not matter: then reading fails too
		w.body.drain()
	}
	w.deadline.Clear()
	_ = w.control.SetReadDeadline(time.Now().Add(unreadBodyTime))
}
