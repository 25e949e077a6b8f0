package front

import (
	"context"
	"net/http"
	"time"

	"aoaigateway/handler/idle"
)

// unreadBodyTime limits the reading of a body that the gateway did not want: net/http
// reads on before it sends a short answer, for as long as the client sends.
const unreadBodyTime = time.Second

// response writes to the client. It knows whether anything has left, and it gives up a
// client that takes nothing for the idle timeout. Its first byte waits for the end of the
// request's body.
type response struct {
	http.ResponseWriter

	control  *http.ResponseController
	deadline idle.Deadline
	body     *clientBody
	started  bool
}

func newResponse(w http.ResponseWriter, r *http.Request, idleTimeout time.Duration) *response {
	control := http.NewResponseController(w)
	return &response{
		ResponseWriter: w, control: control, deadline: idle.NewDeadline(idleTimeout, control.SetWriteDeadline),
		body: newClientBody(r, control, idleTimeout),
	}
}

// Unwrap lets a http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	w.start()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. The deadline also covers the flush that follows.
func (w *response) Write(p []byte) (int, error) {
	w.start()
	w.deadline.Extend()
	return w.ResponseWriter.Write(p)
}

func (w *response) start() {
	if !w.started {
		w.started = true
		w.body.drain()
	}
}

// abortDelay separates the last bytes of an answer from the reset that aborts it. Without
// it the Functions host can lose the bytes.
const abortDelay = 50 * time.Millisecond

// flushBeforeAbort sends what was written and waits for abortDelay.
func (w *response) flushBeforeAbort(ctx context.Context) {
	if !w.started || ctx.Err() != nil {
		return
	}
	_ = w.control.Flush() // the connection is aborted next
	time.Sleep(abortDelay)
}

// done leaves the connection to the server: for the unread body, for the bytes still
// buffered and for the next request, whose read deadline the server sets anew.
func (w *response) done() {
	w.deadline.Clear()
	_ = w.control.SetReadDeadline(time.Now().Add(unreadBodyTime))
}
