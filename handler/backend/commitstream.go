package backend

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"

	"aoaigateway/handler/openai"
	"aoaigateway/handler/openai/refusal"
	"aoaigateway/handler/sse"
)

const (
	// maxPrelude is how many bytes are held before the first output of a stream. A few events
	// may be larger, because a region repeats the instructions and the tools of the request.
	maxPrelude       = 1 << 20
	fewPreludeEvents = 8

	// afterFailure is how long the rest of a stream is read that failed before any output: the
	// reason may come after the event that says so.
	afterFailure = 2 * time.Second
)

// commitStream reads up to the first event with output, and keeps the events before it. A
// region that refuses or fails before any output has not answered: nothing of its stream
// reaches the client if another region answers. began is called at the first event that is
// no comment.
func (a *Answer) commitStream(body io.Reader, began func()) failure {
	a.Events = sse.NewReader(body)
	for size := 0; ; {
		e, err := a.Events.Next()
		if err == nil && e.Half {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return failure{reason: "cut-before-first-event", err: noEOF(err)}
		}
		a.hold(e)
		size += len(e.Raw)
		kind := openai.Classify(e.Name, e.Data)
		switch {
		case kind == openai.Failure || kind == openai.Terminal && string(e.Name) == "response.failed":
			began()
			return a.failed()
		case !refusal.IsPrelude(e.Name, e.Data):
			began()
			return failure{}
		case len(e.Data) > 0:
			began()
		}
		if size > maxPrelude && len(a.held) > fewPreludeEvents {
			return failure{reason: "no-output", err: fmt.Errorf("backend: the region sent %d bytes without any output", size)}
		}
		if size > maxPrelude {
			return failure{}
		}
	}
}

// hold keeps an event. The slices of e are valid only until the next event.
func (a *Answer) hold(e sse.Event) {
	a.held = append(a.held, sse.Event{Raw: bytes.Clone(e.Raw), Name: bytes.Clone(e.Name), Data: bytes.Clone(e.Data), Half: e.Half})
}

// failed judges a stream whose last held event says that it failed before any output. It
// reads on until the region names the reason or ends the stream, because the client gets all
// events of the region if no other region answers.
func (a *Answer) failed() failure {
	reason, known := refusal.InStream(a.held[len(a.held)-1].Data)
	limit := time.AfterFunc(afterFailure, a.Close)
	defer limit.Stop()
	for size := 0; size < maxPrelude && reason != refusal.Client; {
		e, err := a.Events.Next()
		if err != nil {
			break
		}
		a.hold(e)
		size += len(e.Raw)
		if !known {
			reason, known = refusal.InStream(e.Data)
		}
	}
	if reason == refusal.Client {
		return failure{}
	}
	a.Close()
	a.Events = sse.NewReader(bytes.NewReader(nil)) // what was read is held
	switch reason {
	case refusal.Throttled:
		return failure{outcome: throttled, reason: reasons[throttled]}
	case refusal.Unavailable:
		if classify(http.StatusServiceUnavailable, a.Header) == throttled {
			return failure{outcome: throttled, reason: reasons[throttled]}
		}
		return failure{outcome: unavailable, reason: "error-event"}
	default:
		return failure{outcome: errorEvent, reason: "error-event"}
	}
}

// statedWait reads the wait from the header, or from the words of a whole body or of the
// held events.
func (a *Answer) statedWait() statedWait {
	if !a.Succeeded() {
		return waitOf(a.Header, a.Whole)
	}
	var words []byte // of events only: the words of an answer say nothing about the region
	for _, e := range a.held {
		if _, failed := refusal.InStream(e.Data); failed {
			words = append(words, e.Data...)
		}
	}
	return waitOf(a.Header, words)
}

// Next returns the next event of a stream.
func (a *Answer) Next() (sse.Event, error) {
	if len(a.held) > 0 {
		e := a.held[0]
		a.held = a.held[1:]
		return e, nil
	}
	return a.Events.Next()
}
