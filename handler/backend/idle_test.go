package backend_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pausing sends each piece after a pause and then nothing more.
type pausing struct {
	ctx    context.Context //nolint:containedctx // a body belongs to its request
	pieces []string
	pause  time.Duration
}

func (p *pausing) Read(b []byte) (int, error) {
	if len(p.pieces) == 0 {
		<-p.ctx.Done()
		return 0, p.ctx.Err()
	}
	select {
	case <-time.After(p.pause):
	case <-p.ctx.Done():
		return 0, p.ctx.Err()
	}
	n := copy(b, p.pieces[0])
	p.pieces = p.pieces[1:]
	return n, nil
}

func TestIdleTimeoutEndsSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPool(t, map[string][]reply{"a": {func(r *http.Request) (*http.Response, error) {
			return response(r, 200, &pausing{r.Context(), []string{"data: 1\n\n", "data: 2\n\n", "data: 3\n\n"}, 9 * time.Minute}, sse), nil
		}}})
		a, err := ask(t.Context(), p, call(true))
		if err != nil || first(t, a) != "1" {
			t.Fatalf("%+v, %v", a, err)
		}
		defer a.Close()
		for _, want := range []string{"2", "3"} {
			if e, err := a.Events.Next(); err != nil || string(e.Data) != want {
				t.Fatalf("%q, %v", e.Data, err)
			}
		}
		start := time.Now()
		if _, err := a.Events.Next(); err == nil || errors.Is(err, io.EOF) || time.Since(start) != 10*time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestIdleTimeoutIgnoresSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPool(t, map[string][]reply{"a": {func(r *http.Request) (*http.Response, error) {
			return response(r, 200, &pausing{r.Context(), []string{"data: 1\n\n", "data: 2\n\n"}, 0}, sse), nil
		}}})
		a, err := ask(t.Context(), p, call(true))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		time.Sleep(time.Hour)
		if e, err := a.Events.Next(); err != nil || string(e.Data) != "2" {
			t.Errorf("%q, %v", e.Data, err)
		}
	})
}
