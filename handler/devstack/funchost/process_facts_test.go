//go:build unix

package funchost_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/devstack/funchost"
)

// processFacts: what happens to the handler's process or a timer; what the host does.
var processFacts = []fact{
	{row: 0, sent: "a restart", got: "the port is chosen once and kept", check: func(t *testing.T, _ *site) {
		s := start(t, funchost.Options{})
		before := variables(s.send(t, get(x)).see(t))
		restart(t, s, 200)
		after := variables(s.send(t, get(x)).see(t))
		if p := "FUNCTIONS_CUSTOMHANDLER_PORT"; before[p] != after[p] {
			t.Errorf("port %s, then %s", before[p], after[p])
		}
	}},
	{row: 1, sent: "environment", got: "port and id under two names, the app's folder", check: func(t *testing.T, s *site) {
		seen := s.send(t, get(x)).see(t)
		env := variables(seen)
		_, port, _ := strings.Cut(seen.get("Host")[0], ":")
		if env["FUNCTIONS_CUSTOMHANDLER_PORT"] != port || env["FUNCTIONS_HTTPWORKER_PORT"] != port ||
			env["FUNCTIONS_APP_ROOT_PATH"] != seen.Dir ||
			env["FUNCTIONS_CUSTOMHANDLER_WORKER_ID"] == "" || env["FUNCTIONS_CUSTOMHANDLER_WORKER_ID"] != env["FUNCTIONS_HTTPWORKER_ID"] {
			t.Errorf("%v in %s", env, seen.Dir)
		}
	}},
	{row: 2, sent: "a port that is never opened", got: "GET / until initializationTimeout, 30 s, then an error", check: neverOpened},
	{row: 3, sent: "exit 1", got: "an error, a restart at once; the third ends the host 2 s later", check: thirdError},
	{row: 4, sent: "exit 200", got: "a restart, never an error", check: func(t *testing.T, _ *site) {
		s := start(t, funchost.Options{})
		for range 4 {
			restart(t, s, 200)
		}
		isEmpty(get("/openai//a"), 404, false)(t, s)
	}},
	{row: 5, sent: "exit 0 once ready", got: "never restarted, every request 500 after 1.9 s", check: func(t *testing.T, _ *site) {
		s := start(t, funchost.Options{})
		_ = s.send(t, post("/openai/a?do=exit&rc=0", "x"))
		waitFor(t, func() bool { return s.Pid() == 0 })
		for _, raw := range []string{get(x), post(x, "x")} {
			if r := s.send(t, raw); !r.empty(500) || r.took < 1800*time.Millisecond {
				t.Error(r)
			}
		}
		if s.Starts() != 1 {
			t.Errorf("%d starts", s.Starts())
		}
	}},
	{row: 6, hidden: true, sent: "exit 0 before it was ready", got: "noticed at initializationTimeout, then an error", check: earlyZero},
	{row: 7, sent: "SIGTERM to the handler", got: "exit 130 is an error: a restart", check: func(t *testing.T, _ *site) {
		s := start(t, funchost.Options{})
		if err := syscall.Kill(s.Pid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return s.Starts() == 2 })
		if err := s.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	}},
	{row: 8, hidden: true, sent: "SIGTERM to the host", got: "ignored", absent: "the stand-in is no process; devstack host ends by it"},
	{
		row: 9, hidden: true, sent: "SIGKILL to the host", got: "the handler lives on",
		absent: "the stand-in ends the handler with itself, so that tests leave no process behind",
	},
	{row: 10, hidden: true, sent: "an invocation over functionTimeout", got: "the handler is killed and restarted", check: overTime},
	{row: 11, sent: "the handler's output", got: "stdout and stderr apart", check: func(t *testing.T, _ *site) {
		var stdout, stderr locked
		start(t, funchost.Options{Stdout: &stdout, Stderr: &stderr})
		waitFor(t, func() bool { return stderr.String() != "" })
		if stdout.String() != "to stdout\n" || stderr.String() != "GATEWAY_BACKENDS: missing\n" {
			t.Errorf("%q, %q", stdout.String(), stderr.String())
		}
	}},
	{row: 12, sent: "a timer's request", got: "chunked, two headers of the host, nothing forwarded", check: timerRequest},
	{row: 13, hidden: true, sent: "a timer's body", got: "the envelope", check: timerBody},
	{
		row: 14, sent: "a timer with two hosts", got: "one lease decides",
		absent: "the stand-in has no storage; one timer runs once in it because nothing else triggers it",
	},
}

func hostWith(name, value, initialization string) string {
	s := strings.Replace(fmt.Sprintf(hostJSON, os.Args[0]), `"00:00:10"`, `"`+initialization+`"`, 1)
	return strings.Replace(s, `"`+name+`":"01:00:00"`, `"`+name+`":"`+value+`"`, 1)
}

func variables(s seen) map[string]string {
	env := map[string]string{}
	for _, v := range s.Env {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return env
}

// restart lets the handler exit and waits for the next one.
func restart(t *testing.T, s *site, code int) {
	t.Helper()
	n := s.Starts()
	_, _ = io.WriteString(dial(t, s), post(fmt.Sprintf("/openai/a?do=exit&rc=%d", code), "x"))
	waitFor(t, func() bool { return s.Starts() == n+1 })
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func thirdError(t *testing.T, _ *site) {
	s := start(t, funchost.Options{})
	restart(t, s, 1)
	restart(t, s, 3)
	began := time.Now()
	go func() { _, _ = s.post("/openai/a?do=exit&rc=1") }()
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("still running")
	}
	if took := time.Since(began); took < 1900*time.Millisecond || took > 8*time.Second {
		t.Errorf("ended after %v, want about 2 s", took)
	}
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "Exceeded http worker restart retry count") || s.Starts() != 3 {
		t.Errorf("%v after %d starts", err, s.Starts())
	}
	if _, err := s.post(x); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("still serving: %v", err)
	}
}

func overTime(t *testing.T, _ *site) {
	files := map[string]string{"host.json": hostWith("functionTimeout", "00:00:00.5", "00:00:10")}
	s := start(t, funchost.Options{AppDir: appDir(t, files)}, "FAKE_SWEEP_MS=5000")
	for range 3 {
		n := s.Starts()
		if _, err := s.Trigger(t.Context(), "sweep"); err == nil {
			t.Error("the timer was answered")
		}
		waitFor(t, func() bool { return s.Starts() == n+1 })
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	other := make(chan reply, 1)
	go func() { other <- s.send(t, get("/openai/a?do=stream&n=100&ms=50")) }()
	waitFor(t, func() bool { return s.noted("READ none") == 1 })
	time.Sleep(100 * time.Millisecond)
	if r := s.send(t, get("/openai/a?do=hang")); !r.empty(500) {
		t.Error(r)
	}
	if r := <-other; !errors.Is(r.err, syscall.ECONNRESET) {
		t.Errorf("another stream of the same handler: %v", r)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("it counted as an error: %v", err)
	}
}

// locked is a buffer that several goroutines use.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fire triggers the timer and returns what the handler was sent.
func fire(t *testing.T, s *site) (seen, string) {
	t.Helper()
	answer, err := s.Trigger(t.Context(), "sweep")
	if err != nil {
		t.Fatal(err)
	}
	return seen{Head: answer.Logs[0]}, answer.Logs[1]
}

func timerRequest(t *testing.T, _ *site) {
	s := start(t, funchost.Options{}, "FAKE_SWEEP_TYPE=application/json", "FAKE_SWEEP=echo")
	sent, _ := fire(t, s)
	if sent.lines()[0] != "POST /sweep HTTP/1.1" {
		t.Error(sent.Head)
	}
	var names []string
	for _, line := range sent.lines()[1:] {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	want := []string{
		"content-type", "host", "transfer-encoding", "user-agent", "x-azure-functions-hostversion", "x-azure-functions-invocationid",
	}
	if !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if !strings.Contains(sent.Head, "Content-Type: application/json; charset=utf-8\r\n") ||
		!strings.Contains(sent.Head, "User-Agent: Azure-Functions-Host/4.1052.200\r\n") {
		t.Error(sent.Head)
	}
}

func timerBody(t *testing.T, _ *site) {
	type timer struct {
		Schedule       struct{ AdjustForDST bool }
		ScheduleStatus *struct{ Last, Next, LastUpdated string }
		IsPastDue      *bool
	}
	envelope := func(s *site) (d timer) {
		var body struct {
			Data     map[string]timer
			Metadata struct{ Sys map[string]string }
		}
		_, text := fire(t, s)
		err := json.Unmarshal([]byte(text), &body)
		if d = body.Data["timer"]; err != nil || d.IsPastDue == nil || *d.IsPastDue || !d.Schedule.AdjustForDST ||
			body.Metadata.Sys["MethodName"] != "sweep" || !strings.HasSuffix(body.Metadata.Sys["UtcNow"], "Z") {
			t.Errorf("%v: %s", err, text)
		}
		return d
	}
	s := start(t, funchost.Options{}, "FAKE_SWEEP_TYPE=application/json", "FAKE_SWEEP=echo")
	const never = "0001-01-01T00:00:00+00:00"
	if d := envelope(s); d.ScheduleStatus.Last != never || d.ScheduleStatus.LastUpdated != never ||
		!strings.HasSuffix(d.ScheduleStatus.Next, "+00:00") {
		t.Errorf("the first time: %+v", d.ScheduleStatus)
	}
	if d := envelope(s); d.ScheduleStatus.Last == never || d.ScheduleStatus.Last != d.ScheduleStatus.LastUpdated {
		t.Errorf("the second time: %+v", d.ScheduleStatus)
	}
	often := appDir(t, map[string]string{"sweep/function.json": strings.Replace(sweepFunction, "0 */5", "*/10 *", 1)})
	s = start(t, funchost.Options{AppDir: often}, "FAKE_SWEEP_TYPE=application/json", "FAKE_SWEEP=echo")
	if d := envelope(s); d.ScheduleStatus != nil {
		t.Errorf("a schedule under a minute: %+v", d.ScheduleStatus)
	}
}

func neverOpened(t *testing.T, _ *site) {
	dir := appDir(t, map[string]string{"host.json": hostWith("functionTimeout", "01:00:00", "00:00:00.3")})
	began := time.Now()
	_, err := tryStart(t, funchost.Options{AppDir: dir}, "FAKE_HANG=1")
	if took := time.Since(began); err == nil || took < 900*time.Millisecond {
		t.Errorf("%v after %v, want three times 0.3 s", err, took)
	}
}

func earlyZero(t *testing.T, _ *site) {
	dir := appDir(t, map[string]string{"host.json": hostWith("functionTimeout", "01:00:00", "00:00:00.4")})
	began := time.Now()
	_, err := tryStart(t, funchost.Options{AppDir: dir}, "FAKE_EXIT=0")
	if took := time.Since(began); err == nil || took < 1200*time.Millisecond {
		t.Errorf("%v after %v, want three times 0.4 s", err, took)
	}
}
