//go:build unix

package funchost_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be its own custom handler.
func TestMain(m *testing.M) {
	if port := os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"); port != "" {
		work(port)
		return
	}
	os.Exit(m.Run())
}

// work is a custom handler on bare connections: it shows what the host sent and plays answers
// that net/http would not give. Its settings:
//
//	FAKE_EXIT      exit with this code instead of starting
//	FAKE_HANG      never open the port
//	FAKE_LOG       file that gets a line for each request
//	FAKE_SWEEP     body of the timer's answer; "echo" = what the handler was sent
//	FAKE_SWEEP_MS  how long the timer works
func work(port string) {
	fmt.Println("to stdout")
	fmt.Fprintln(os.Stderr, "GATEWAY_BACKENDS: missing")
	if code, err := strconv.Atoi(os.Getenv("FAKE_EXIT")); err == nil {
		os.Exit(code)
	}
	if os.Getenv("FAKE_HANG") != "" {
		select {}
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		os.Exit(130)
	}()
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			w := &fakeConn{TCPConn: c.(*net.TCPConn), r: bufio.NewReader(c)}
			for w.one() {
			}
			_ = c.Close()
		}()
	}
}

type fakeConn struct {
	*net.TCPConn
	r *bufio.Reader
}

// seen is what the handler was sent.
type seen struct {
	Head string // as the bytes came
	N    int64  // of the body
	How  string // none, length, chunked, or CUT
	Pid  int
	Env  []string
	Dir  string
}

func (s seen) lines() []string { return strings.Split(strings.TrimSuffix(s.Head, "\r\n\r\n"), "\r\n") }

// get returns the header lines of a name, in exactly this case.
func (s seen) get(name string) (values []string) {
	for _, line := range s.lines()[1:] {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			values = append(values, v)
		}
	}
	return values
}

func (c *fakeConn) one() bool {
	var head strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return false
		}
		if head.WriteString(line); line == "\r\n" {
			break
		}
	}
	s := seen{Head: head.String(), Pid: os.Getpid(), How: "none"}
	target := strings.Split(s.lines()[0], " ")[1]
	u, _ := url.ParseRequestURI(target)
	if u == nil {
		u = &url.URL{}
	}
	q := u.Query()
	if target == "/" {
		c.say("HTTP/1.1 204 No Content\r\n\r\n")
		return true
	}
	note(s.lines()[0])
	switch q.Get("do") {
	case "slam", "early":
		c.say("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly")
		if q.Get("do") == "early" {
			_, _ = c.body(s, io.Discard)
		}
		return false
	}
	var body strings.Builder
	s.N, s.How = c.body(s, &body)
	note("READ " + s.How + " " + target + " ID " + strings.Join(s.get("X-Azure-Functions-InvocationId"), ""))
	if s.How == "CUT" {
		return false
	}
	if u.Path == "/sweep" {
		c.sweep(s, body.String())
		return true
	}
	return c.play(s, q)
}

func (c *fakeConn) play(s seen, q url.Values) bool {
	ms, _ := strconv.Atoi(q.Get("ms"))
	switch pause := time.Duration(ms) * time.Millisecond; q.Get("do") {
	case "raw":
		raw, _ := base64.StdEncoding.DecodeString(q.Get("b64"))
		c.say(string(raw))
		time.Sleep(pause)
		if q.Get("close") == "rst" {
			_ = c.SetLinger(0)
		}
		return q.Get("close") == ""
	case "exit":
		code, _ := strconv.Atoi(q.Get("rc"))
		os.Exit(code)
	case "stream":
		c.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		n, _ := strconv.Atoi(q.Get("n"))
		for range n {
			c.say("9\r\ndata: 1\n\n\r\n")
			time.Sleep(pause)
		}
		c.say("0\r\n\r\n")
		return true
	case "hang":
		_, _ = c.r.Peek(1)
		note("LEFT")
		return false
	case "slow":
		time.Sleep(pause)
	}
	s.Env = os.Environ()
	s.Dir, _ = os.Getwd()
	out, _ := json.Marshal(s)
	if strings.HasPrefix(s.Head, "HEAD ") {
		out = nil
	}
	c.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(out), out))
	return true
}

func (c *fakeConn) sweep(s seen, body string) {
	ms, _ := strconv.Atoi(os.Getenv("FAKE_SWEEP_MS"))
	time.Sleep(time.Duration(ms) * time.Millisecond)
	out := []byte(os.Getenv("FAKE_SWEEP"))
	if string(out) == "echo" {
		out, _ = json.Marshal(map[string]any{"Outputs": map[string]any{}, "ReturnValue": nil, "Logs": []string{s.Head, body}})
	}
	c.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", os.Getenv("FAKE_SWEEP_TYPE"), len(out), out))
}

func (c *fakeConn) say(s string) { _, _ = io.WriteString(c.TCPConn, s) }

func (c *fakeConn) body(s seen, to io.Writer) (n int64, how string) {
	var err error
	if len(s.get("Transfer-Encoding")) > 0 {
		how = "chunked"
		if n, err = io.Copy(to, httputil.NewChunkedReader(c.r)); err == nil {
			_, _ = c.r.ReadString('\n')
		}
	} else if length := s.get("Content-Length"); len(length) > 0 {
		how = "length"
		want, _ := strconv.ParseInt(length[0], 10, 64)
		n, err = io.CopyN(to, c.r, want)
	} else {
		return 0, "none"
	}
	if err != nil {
		how = "CUT"
	}
	return n, how
}

// note adds a line to the log, in one write.
func note(line string) {
	f, err := os.OpenFile(os.Getenv("FAKE_LOG"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, _ = f.WriteString(strconv.Itoa(os.Getpid()) + " " + line + "\n")
		_ = f.Close()
	}
}
