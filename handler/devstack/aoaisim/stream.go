package aoaisim

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"

	"aoaigateway/handler/devstack/aoaisim/wire"
)

// beforeHeaders applies the faults that come before an answer begins. It returns true if
// the request needs no further answer.
func (x *exchange) beforeHeaders() bool {
	if f := x.plan.hang; f != nil {
		x.hang(f)
	}
	if x.plan.reset {
		x.reset()
		return true
	}
	f := x.plan.status
	if f == nil {
		return false
	}
	for name, value := range f.Headers {
		x.w.Header().Set(name, value)
	}
	body := []byte(f.Body)
	if f.Body == "" {
		body, _ = json.Marshal(map[string]any{"error": map[string]any{"code": itoa(int64(f.Status)), "message": statusWords(f.Status)}})
	}
	x.plan.bodyCut, x.plan.earlyReset = false, false
	x.w.Header().Set("Content-Type", "application/json")
	x.reply(f.Status, body)
	return true
}

func statusWords(status int) string {
	switch status {
	case http.StatusTooManyRequests:
		return "Requests to the Operation under Azure OpenAI API have exceeded token rate limit of your current OpenAI S0 pricing tier. " +
			"Please retry later."
	case http.StatusInternalServerError:
		return "The server had an error while processing your request. Sorry about that!"
	default:
		return http.StatusText(status)
	}
}

// hang waits as the fault f says. It returns earlier if the client disconnects or the
// faults are cleared.
func (x *exchange) hang(f *Fault) {
	if f.Millis > 0 {
		x.pause(f.wait())
		return
	}
	select {
	case <-x.plan.released:
	case <-x.r.Context().Done():
	}
}

// internalError is the code of RST_STREAM of a server that fails (RFC 9113, section 7).
const internalError = 2

// reset breaks the answer off: with a TCP reset, or over HTTP/2 with a reset of the stream.
func (x *exchange) reset() { x.resetStream(internalError) }

// resetStream is reset with a code for HTTP/2.
func (x *exchange) resetStream(code int) {
	x.log.Cut = true
	conn := wire.Of(x.r.Context())
	if conn == nil || conn.HTTP2() {
		if conn != nil {
			conn.NextRST(code)
		}
		panic(http.ErrAbortHandler)
	}
	_, _, _ = http.NewResponseController(x.w).Hijack()
	conn.Reset()
}

// drop closes the connection; over HTTP/2 with all its streams.
func (x *exchange) drop() {
	x.log.Cut = true
	conn := wire.Of(x.r.Context())
	if conn == nil || conn.HTTP2() {
		if conn != nil {
			_ = conn.Close()
		}
		panic(http.ErrAbortHandler)
	}
	_, _, _ = http.NewResponseController(x.w).Hijack()
	_ = conn.Close()
}

func (x *exchange) goAway(code int) {
	if conn := wire.Of(x.r.Context()); conn != nil {
		conn.GoAway(code)
	}
}

func (x *exchange) stall() {
	if conn := wire.Of(x.r.Context()); conn != nil {
		conn.Stall()
	}
}

// ready waits until the next event may be sent.
func (x *exchange) ready() {
	x.pause(x.region.o.EventDelay)
	x.pause(x.plan.slow)
	if !x.plan.step {
		return
	}
	select {
	case <-x.plan.steps:
	case <-x.plan.released:
	case <-x.r.Context().Done():
	}
}

func (x *exchange) spoilt(n int, e event) event {
	switch n {
	case x.plan.malformed:
		e.text, e.data = "", `{"choices":[{"delta":{"content":"bro`
	case x.plan.failing:
		e.text = ""
		e.data = `{"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error",` +
			`"param":null,"code":null}}`
		if e.name != "" {
			e.name, e.data = "error", `{"type":"error","sequence_number":`+strconv.Itoa(n)+`,"error":{"type":"server_error",`+
				`"code":"server_error","message":"The server had an error while processing your request.","param":null}}`
		}
	}
	return e
}

func (x *exchange) cut() {
	x.log.Cut = true
	if x.plan.cut != DoCutEnd {
		x.flush()
		if x.plan.cut == DoCutReset {
			x.reset()
			return
		}
		x.drop()
	}
}

func (x *exchange) sendEvent(e event) bool {
	p := make([]byte, 0, len(e.data)+len(e.name)+20)
	if e.text != "" {
		p = append(p, e.text...)
	} else {
		p = e.appendTo(p)
	}
	return x.sendBytes(p)
}

// appendTo appends the event as it is in a stream.
func (e event) appendTo(p []byte) []byte {
	if e.name != "" {
		p = append(append(append(p, "event: "...), e.name...), '\n')
	}
	return append(append(append(p, "data: "...), e.data...), "\n\n"...)
}

// sendBytes sends an event, in pieces if a fault says so.
func (x *exchange) sendBytes(p []byte) bool {
	if x.plan.split == 0 {
		ok := x.write(p)
		x.flush()
		x.region.counts.event()
		return ok
	}
	for len(p) > 0 {
		n := min(len(p), 1+rand.IntN(x.plan.split))
		if !x.write(p[:n]) {
			return false
		}
		x.flush()
		p = p[n:]
	}
	x.region.counts.event()
	return true
}
