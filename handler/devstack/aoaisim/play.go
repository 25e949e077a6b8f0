package aoaisim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"

	"aoaigateway/handler/devstack/aoaisim/scenario"
)

// performance is one answer while it is sent: a scenario's steps, or the ordinary answer.
type performance struct {
	x     *exchange
	s     *scenario.Scenario
	scene *scene
	q     *request
	a     *answer
	next  func() (event, bool) // the next event of the ordinary answer; nil = there are none
	seq   int                  // number of the next event of a Responses stream
	n     int                  // events sent
	words int                  // tokens sent
	ended bool                 // the terminal event was sent
}

// ordinary is the scenario of an answer without any peculiarity.
func ordinary(stream bool) *scenario.Scenario {
	return &scenario.Scenario{Name: "ordinary", Status: http.StatusOK, Stream: stream, Steps: []scenario.Step{{Do: scenario.Answer}}}
}

// refuse answers with a scenario of the folder error.
func (x *exchange) refuse(name string, c scene) {
	s := scenario.Find("error/"+name, "", false)
	if s == nil {
		panic("aoaisim: there is no scenario error/" + name)
	}
	x.play(s, nil, nil, c)
}

// play answers with a scenario. q and a are nil if the request was not understood.
func (x *exchange) play(s *scenario.Scenario, q *request, a *answer, c scene) {
	p := &performance{x: x, s: s, q: q, a: a}
	p.scene = c.complete(p)
	if s.Name == "ordinary" {
		h := x.w.Header()
		h.Set("Content-Type", "application/json")
		if s.Stream {
			h.Set("Content-Type", "text/event-stream; charset=utf-8")
		}
	}
	for _, f := range s.Header {
		if value := p.text(f.Value.Execute); value != "" {
			x.w.Header().Set(f.Name, value)
		} else {
			x.w.Header()[http.CanonicalHeaderKey(f.Name)] = nil
		}
	}
	if a != nil {
		stop := p.pull(s.Stream)
		defer stop()
	}
	x.log.Scenario = s.Name
	x.pause(s.Before)
	if s.Stream {
		p.stream()
	} else {
		p.whole()
	}
}

func (p *performance) pull(stream bool) (stop func()) {
	events := forms[p.x.route.operation].events
	if !stream || events == nil {
		return func() {}
	}
	next, stop := iter.Pull(events(p.q, p.a))
	p.next = next
	return stop
}

func (p *performance) text(execute func(io.Writer, any) error) string {
	var b bytes.Buffer
	if err := execute(&b, p.scene); err != nil {
		panic(fmt.Sprintf("aoaisim: scenario %s: %v", p.s.Name, err)) // the tests execute each template
	}
	return b.String()
}

// whole sends a body in one piece.
func (p *performance) whole() {
	x, body := p.x, []byte(nil)
	for _, step := range p.s.Steps {
		switch step.Do {
		case scenario.Send:
			body = append(body, p.text(step.Text.Execute)...)
		case scenario.Answer:
			body = append(body, forms[x.route.operation].whole(p.q, p.a)...)
		case scenario.Wait:
			x.pause(step.Time)
		default:
			x.end(step)
			return
		}
	}
	p.bill(p.s.Status < http.StatusMultipleChoices)
	if reason := p.s.Reason; reason != "" && reason != http.StatusText(p.s.Status) && x.spoken(p.s.Status, reason, body) {
		return
	}
	x.reply(p.s.Status, body)
}

// bill counts what the service charges for the answer. Nothing is counted for an answer
// that a fault cuts off before its first byte.
func (p *performance) bill(good bool) {
	x := p.x
	if x.plan.bodyCut || x.plan.earlyReset {
		return
	}
	var u Usage
	switch billed := p.s.Billed; {
	case billed == "none" || billed == "" && !good:
		return
	case strings.HasPrefix(billed, "{"):
		_ = json.Unmarshal([]byte(billed), &u)
	case p.a == nil:
		return
	case billed == "prompt":
		u = Usage{Prompt: p.a.usage.Prompt, Cached: p.a.usage.Cached, Total: p.a.usage.Prompt}
	default:
		u = p.a.usage
	}
	if good {
		x.log.answered(u) // before the bytes are sent, so that a client with the answer also finds it in the counts
	} else {
		x.log.charged(u)
	}
}

// stream sends events.
func (p *performance) stream() {
	x := p.x
	x.log.Status, x.log.Stream = p.s.Status, true
	if x.plan.earlyReset || x.plan.hangEvent != nil || p.s.Name != "ordinary" {
		x.w.WriteHeader(p.s.Status)
		x.flush()
	}
	if f := x.plan.hangEvent; f != nil {
		x.hang(f)
	}
	if x.plan.earlyReset {
		x.reset()
		return
	}
	whole := p.steps()
	if whole && !p.ended {
		p.last()
	}
}

// steps does the steps of a stream. It returns false if the stream was cut off, and counts
// it then, also if the handler is aborted.
func (p *performance) steps() (whole bool) {
	defer func() {
		if !whole {
			p.partial()
		}
	}()
	repeat := scenario.Step{}
	for i, step := range p.s.Steps {
		ok := true
		if step.Do == scenario.Send && i == len(p.s.Steps)-1 && !p.ended {
			p.last() // before the bytes are sent, as in bill
			p.ended = true
		}
		switch step.Do {
		case scenario.Send:
			for i := 0; i <= repeat.N && ok; i++ {
				ok = p.send(event{text: p.text(step.Text.Execute)})
				p.x.pause(repeat.Time)
			}
			repeat = scenario.Step{}
		case scenario.Repeat:
			repeat = step
		case scenario.Answer:
			ok = p.answer(step.N)
		case scenario.Wait:
			p.x.pause(step.Time)
		default:
			ok = p.x.end(step)
		}
		if !ok {
			return false
		}
	}
	return true
}

// last counts a stream that ended without the terminal event of the ordinary answer: that
// of a scenario, or one that ends too early.
func (p *performance) last() {
	if p.s.Billed == "prompt" && p.a != nil {
		u := Usage{Prompt: p.a.usage.Prompt, Cached: p.a.usage.Cached, Completion: int64(p.words)}
		u.Total = u.Prompt + u.Completion
		p.x.log.charged(u)
		return
	}
	if p.s.Billed != "" || p.next == nil || p.n == 0 || p.s.Steps[len(p.s.Steps)-1].Do == scenario.Send {
		p.bill(true)
		return
	}
	p.partial()
}

func (p *performance) partial() {
	switch {
	case p.ended || p.a == nil || p.s.Billed == "none":
		p.x.log.Cut = !p.ended
	default:
		p.x.log.partial(p.a.usage, p.words)
	}
}

// answer sends the next n events of the ordinary answer, all that are left if n is 0.
func (p *performance) answer(n int) bool {
	for i := 0; n == 0 || i < n; i++ {
		e, ok := p.next()
		if !ok {
			return true
		}
		if !p.send(e) {
			return false
		}
	}
	return true
}

// send sends one event with the faults in the plan. It returns false if the stream is over.
func (p *performance) send(e event) bool {
	x := p.x
	if x.plan.cut != "" && p.n == x.plan.cutAfter {
		x.cut()
		return false
	}
	x.ready()
	if e.fields != "" {
		e = e.numbered(p.seq)
		p.seq++
	}
	failing := p.n == x.plan.failing
	if e.final && !failing && p.s.Billed == "" {
		p.ended = true
		x.log.answered(p.a.usage)
	}
	if !x.sendEvent(x.spoilt(p.n, e)) || failing {
		return false
	}
	if p.n++; e.token {
		p.words++
	}
	return true
}

// spoken sends an answer with a reason phrase of its own. It returns false if that is not
// possible, as over HTTP/2.
func (x *exchange) spoken(status int, reason string, body []byte) bool {
	if x.r.ProtoMajor != 1 {
		return false
	}
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return false
	}
	x.log.Status = status
	x.log.sent(body)
	var b bytes.Buffer
	_, _ = fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, reason)
	h := x.w.Header()
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Connection", "close")
	_ = h.Write(&b)
	b.WriteString("\r\n")
	b.Write(body)
	_, _ = conn.Write(b.Bytes())
	_ = conn.Close()
	return true
}

// flushed sends what was written, but no headers if there are none yet.
func (x *exchange) flushed() {
	if x.log.Status != 0 {
		x.flush()
	}
}

// end does a step that is about the connection. It returns false if the answer is over.
func (x *exchange) end(step scenario.Step) bool {
	switch step.Do {
	case scenario.Silence:
		x.hang(&Fault{})
	case scenario.Close:
		x.flushed()
		x.drop()
	case scenario.Reset:
		x.flushed()
		x.reset()
	case scenario.RST:
		x.flushed()
		x.resetStream(step.N)
	case scenario.GoAway:
		x.goAway(step.N)
		return true
	case scenario.Stall:
		x.stall()
		return true
	default:
		panic("aoaisim: a whole body has no step " + string(step.Do))
	}
	return false
}
