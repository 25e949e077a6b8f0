package aoaisim_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
)

const streamBody = `{"messages":[{"role":"user","content":"[tokens:6]"}],"stream":true}`

func TestStreamFaults(t *testing.T) {
	for _, c := range []struct {
		fault  aoaisim.Fault
		events int
		check  func(error) bool
	}{
		{aoaisim.Fault{Do: aoaisim.DoCutReset, After: 3}, 3, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{aoaisim.Fault{Do: aoaisim.DoCutFin, After: 3}, 3, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{aoaisim.Fault{Do: aoaisim.DoCutEnd, After: 3}, 3, func(err error) bool { return err == nil }},
		{aoaisim.Fault{Do: aoaisim.DoError, After: 2}, 3, func(err error) bool { return err == nil }},
		{aoaisim.Fault{Do: aoaisim.DoResetEvent}, 0, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
	} {
		t.Run(string(c.fault.Do), func(t *testing.T) {
			r, url, _ := start(t, nil)
			c.fault.Times = 1
			r.Fault(c.fault)
			resp, body, err := send(t, newRequest(t, http.MethodPost, url+chatPath, streamBody))
			if resp == nil || !c.check(err) {
				t.Fatalf("response %v, error %v", resp, err)
			}
			if n := bytes.Count(body, []byte("\n\n")); n != c.events {
				t.Errorf("%d events: %s", n, body)
			}
			if bytes.Contains(body, []byte("[DONE]")) {
				t.Error("the terminal event was sent")
			}
			if _, body, err := send(t, newRequest(t, http.MethodPost, url+chatPath, streamBody)); err != nil ||
				!bytes.Contains(body, []byte("[DONE]")) {
				t.Errorf("the next request was struck too: %v %s", err, body)
			}
			waitFor(t, func() bool { c := r.Counts(); return c.Answered == 1 && c.Cut == 1 })
		})
	}
}

func TestJSONFaults(t *testing.T) {
	r, url, _ := start(t, nil)
	r.Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 503, Times: 1, Headers: map[string]string{"Retry-After": "7"}})
	resp, _, err := send(t, newRequest(t, http.MethodPost, url+chatPath, hello+"}"))
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("%v %v", resp, err)
	}
	r.Fault(aoaisim.Fault{Do: aoaisim.DoReset, Times: 1})
	if _, _, err := send(t, newRequest(t, http.MethodPost, url+chatPath, hello+"}")); err == nil {
		t.Error("no reset")
	}
	r.Fault(aoaisim.Fault{Do: aoaisim.DoResetBody, Times: 1})
	resp, body, err := send(t, newRequest(t, http.MethodPost, url+chatPath, hello+"}"))
	if resp == nil || resp.StatusCode != http.StatusOK || err == nil || len(body) == 0 || int64(len(body)) >= resp.ContentLength {
		t.Errorf("%v, %d bytes, %v", resp, len(body), err)
	}
	if c := r.Counts(); c.Answered != 0 || c.Requests != 3 {
		t.Errorf("counts %+v", c)
	}
}

func TestFaultOfOneDeployment(t *testing.T) {
	r, url, _ := start(t, nil)
	r.Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 500, Deployment: "tight"})
	for deployment, want := range map[string]int{"chat": 200, "tight": 500} {
		resp, _, err := send(t, newRequest(t, http.MethodPost, url+"/openai/v1/chat/completions", hello+`,"model":"`+deployment+`"}`))
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v %v", deployment, resp, err)
		}
	}
}

func TestHangFault(t *testing.T) {
	r, url, _ := start(t, nil)
	r.Fault(aoaisim.Fault{Do: aoaisim.DoHang})
	req := newRequest(t, http.MethodPost, url+chatPath, hello+"}")
	ctx, cancel := context.WithTimeout(req.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := send(t, req.WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	done := make(chan int, 1)
	go func() {
		resp, _, err := send(t, newRequest(t, http.MethodPost, url+chatPath, hello+"}"))
		if err != nil {
			done <- 0
			return
		}
		done <- resp.StatusCode
	}()
	waitFor(t, func() bool { return r.Counts().Requests == 2 })
	r.ClearFaults()
	if status := <-done; status != 200 {
		t.Errorf("after clearing: %d", status)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("did not come about in 10 s")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestRefusedUntilCleared(t *testing.T) {
	r, url, control := start(t, nil)
	for range 3 {
		r.Fault(aoaisim.Fault{Do: aoaisim.DoRefuse})
		if _, _, err := send(t, newRequest(t, http.MethodPost, url+chatPath, hello+"}")); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
		if resp, _, err := send(t, newRequest(t, http.MethodDelete, control+"/faults", "")); err != nil ||
			resp.StatusCode != http.StatusNoContent {
			t.Fatalf("%v %v", resp, err)
		}
		if resp, _, err := send(t, newRequest(t, http.MethodPost, url+chatPath, hello+"}")); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("after clearing: %v %v", resp, err)
		}
	}
}

func TestStepMode(t *testing.T) {
	r, url, control := start(t, nil)
	r.Fault(aoaisim.Fault{Do: aoaisim.DoStep})
	resp, err := fresh().Do(func() *http.Request {
		go func() { // the headers leave with the first event
			_, _, _ = send(t, newRequest(t, http.MethodPost, control+"/step", `{"events":1}`))
		}()
		return newRequest(t, http.MethodPost, url+chatPath, streamBody)
	}())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for n := int64(1); n <= 8; n++ {
		for range 2 { // the event and the blank line
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if sent := r.Counts().Events; sent > n {
			t.Fatalf("event %d read, %d sent", n, sent)
		}
		r.Step(1)
	}
	r.ClearFaults()
	if rest, err := io.ReadAll(lines); err != nil || !bytes.Contains(rest, []byte("[DONE]")) {
		t.Errorf("%v %s", err, rest)
	}
}

func TestSplitAndMalformedAndSlow(t *testing.T) {
	r, url, _ := start(t, nil)
	_, whole, err := send(t, newRequest(t, http.MethodPost, url+chatPath, streamBody))
	if err != nil {
		t.Fatal(err)
	}
	r.Fault(aoaisim.Fault{Do: aoaisim.DoSplit, Bytes: 3, Times: 1})
	_, split, err := send(t, newRequest(t, http.MethodPost, url+chatPath, streamBody))
	if err != nil || len(split) != len(whole) {
		t.Errorf("%v, %d bytes in pieces, %d whole", err, len(split), len(whole))
	}
	r.Fault(aoaisim.Fault{Do: aoaisim.DoMalformed, After: 2, Times: 1})
	r.Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 10, Times: 1})
	started := time.Now()
	_, broken, err := send(t, newRequest(t, http.MethodPost, url+chatPath, streamBody))
	if err != nil || !bytes.Contains(broken, []byte("\"bro\n\n")) || time.Since(started) < 90*time.Millisecond {
		t.Errorf("%v after %v: %s", err, time.Since(started), broken)
	}
}

func TestControl(t *testing.T) {
	_, url, control := start(t, nil)
	for _, body := range []string{`{"do":"explode"}`, `{"do":"status"}`, `{"do":"slow","nix":1}`, `{`} {
		if resp, _, err := send(t, newRequest(t, http.MethodPost, control+"/faults", body)); err != nil ||
			resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v %v", body, resp, err)
		}
	}
	req := newRequest(t, http.MethodPost, url+chatPath, hello+"}")
	req.Header.Set("x-ms-client-request-id", "abc")
	if _, _, err := send(t, req); err != nil {
		t.Fatal(err)
	}
	resp, body, err := send(t, newRequest(t, http.MethodGet, control+"/counts", ""))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	var c aoaisim.Counts
	if err := json.Unmarshal(body, &c); err != nil {
		t.Fatal(err)
	}
	if c.Attempts["abc"] != 1 || c.Last == nil || string(c.Last.Body) != hello+"}" ||
		!strings.Contains(string(c.Last.Response), "chatcmpl-") || c.Last.Header.Get("api-key") != key {
		t.Errorf("%s", body)
	}
}
