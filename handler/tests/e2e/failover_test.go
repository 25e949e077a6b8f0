package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

type earlyFault struct {
	fault  aoaisim.Fault
	reason string
	whole  bool // true = whole answers can fail in this way
	stream bool // true = streams can fail in this way
}

// earlyFaults are the faults that clients do not notice as long as another region can
// answer.
var earlyFaults = []earlyFault{
	{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 429, Headers: map[string]string{"Retry-After": "1"}}, "throttled", true, true},
	{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 500}, "server-error", true, true},
	{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 503}, "server-error", true, true},
	{aoaisim.Fault{Do: aoaisim.DoHang}, "first-byte-timeout", true, true},
	{aoaisim.Fault{Do: aoaisim.DoHangEvent}, "first-byte-timeout", false, true},
	{aoaisim.Fault{Do: aoaisim.DoRefuse}, "connect-failed", true, true},
	{aoaisim.Fault{Do: aoaisim.DoReset}, "reset", true, true},
	{aoaisim.Fault{Do: aoaisim.DoResetEvent}, "cut-before-first-event", false, true},
	{aoaisim.Fault{Do: aoaisim.DoResetBody}, "broken-body", true, false},
}

func TestFailoverBeforeFirstEvent(t *testing.T) {
	for _, c := range earlyFaults {
		for _, stream := range []bool{false, true} {
			if stream && !c.stream || !stream && !c.whole {
				continue
			}
			t.Run(fmt.Sprintf("%s %d stream %t", c.fault.Do, c.fault.Status, stream), func(t *testing.T) {
				r := harness.Start(t, harness.Options{Settings: func(s *settings.Values) {
					s.FirstByteTimeout, s.StreamFirstByteTimeout = 150*time.Millisecond, 150*time.Millisecond
				}})
				r.Regions[0].Fault(c.fault)
				body := harness.ChatBody
				if stream {
					body = harness.ChatStream
				}
				a := r.Post(harness.ChatPath, body)
				if a.Status != 200 || a.Err != nil || stream && !bytes.HasSuffix(a.Body, []byte("data: [DONE]\n\n")) {
					t.Fatalf("%d, %v: %s", a.Status, a.Err, a.Body)
				}
				rec := r.RecordOf(a)
				if len(rec.Attempts) != 2 || rec.Attempts[0].Region != "a" || rec.Attempts[0].Reason != c.reason || rec.Attempts[1].Region != "b" ||
					rec.Attempts[1].Reason != "" || rec.Region != "b" {
					t.Errorf("attempts %+v", rec.Attempts)
				}
				if rec.Outcome != gateway.Complete || rec.Status != 200 {
					t.Errorf("record %+v", rec)
				}
			})
		}
	}
}

func TestStreamBrokenAfterFirstEvent(t *testing.T) {
	for _, do := range []aoaisim.Do{aoaisim.DoCutReset, aoaisim.DoCutFin, aoaisim.DoCutEnd} {
		for path, body := range map[string]string{
			harness.ChatPath:       harness.ChatStream,
			"/openai/v1/responses": `{"model":"chat","input":"hi [tokens:9]","stream":true}`,
		} {
			t.Run(string(do)+" "+path, func(t *testing.T) {
				r := harness.Start(t, harness.Options{})
				r.Regions[0].Fault(aoaisim.Fault{Do: do, After: 4})
				a := r.Post(path, body)
				if a.Err == nil {
					t.Errorf("the client saw a clean end")
				}
				list := harness.Events(a.Body)
				last := list[len(list)-1]
				if a.Status != http.StatusOK || len(list) < 2 || !bytes.Contains([]byte(last), []byte("upstream_cut")) ||
					bytes.Contains(a.Body, []byte("[DONE]")) {
					t.Errorf("%d, last of %d events: %s", a.Status, len(list), last)
				}
				rec := r.RecordOf(a)
				if rec.Outcome != gateway.UpstreamCut || len(rec.Attempts) != 1 || !rec.Usage.Estimated {
					t.Errorf("record %+v", rec)
				}
			})
		}
	}
}

func TestThrottledRegionIsAvoided(t *testing.T) {
	r := harness.Start(t, harness.Options{})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 429, Times: 1, Headers: map[string]string{"retry-after-ms": "300"}})
	for range 5 {
		if a := r.Post(harness.ChatPath, harness.ChatBody); a.Status != 200 {
			t.Fatal(a.Status)
		}
	}
	if n := r.Regions[0].Counts().Requests; n != 1 {
		t.Errorf("the region was asked %d times while it wanted peace", n)
	}
	time.Sleep(300 * time.Millisecond)
	if rec := r.RecordOf(r.Post(harness.ChatPath, harness.ChatBody)); rec.Region != "a" {
		t.Errorf("answered by %s after the wait", rec.Region)
	}
}

func TestErrorWhenNoRegionIsLeft(t *testing.T) {
	for _, c := range []struct {
		fault  aoaisim.Fault
		status int
	}{
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 429, Headers: map[string]string{"Retry-After": "9"}}, 429},
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 500}, 500},
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 401}, 502},
		{aoaisim.Fault{Do: aoaisim.DoRefuse}, 503},
		{aoaisim.Fault{Do: aoaisim.DoReset}, 503},
	} {
		r := harness.Start(t, harness.Options{})
		for _, region := range r.Regions {
			region.Fault(c.fault)
		}
		a := r.Post(harness.ChatPath, harness.ChatStream)
		if a.Status != c.status || a.Event(t, "error", "message") == "" {
			t.Errorf("%v: %d %s", c.fault, a.Status, a.Body)
		}
		if c.status == 429 && a.Header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After in %v", a.Header)
		}
		for _, secret := range []string{"key-of-", "127.0.0.1"} {
			if bytes.Contains(a.Body, []byte(secret)) {
				t.Errorf("the error shows %q: %s", secret, a.Body)
			}
		}
		if rec := r.RecordOf(a); len(rec.Attempts) < 2 || rec.Status != c.status {
			t.Errorf("%v: record %+v", c.fault, rec)
		}
	}
}

func TestAnswerTimeoutAdvisesStream(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) { s.AnswerTimeout = 200 * time.Millisecond }})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
	a := r.Post(harness.ChatPath, harness.ChatBody)
	if a.Status != 504 || !bytes.Contains(a.Body, []byte("stream")) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}
