// Package wiremock installs and runs a pinned version of WireMock, a server with scripted
// answers. It is for tests that should not depend only on our own simulated regions. It
// requires npm and a Java runtime of version 17 or newer on PATH.
package wiremock

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"aoaigateway/handler/devstack/child"
	"aoaigateway/handler/devstack/tools"
)

//go:embed package.json package-lock.json
var manifest embed.FS

const jar = "wiremock-standalone-3.13.2.jar"

// Server is a running WireMock.
type Server struct {
	URL    string // without a trailing slash
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start installs WireMock if necessary, and runs it on 127.0.0.1 until Stop or until this
// process ends. ctx limits only the start.
func Start(ctx context.Context) (*Server, error) {
	home, err := tools.InstallNode(ctx, "wiremock", manifest)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "java", // not ended by ctx: Stop ends it
		"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", // for a quicker start and less memory
		"-jar", filepath.Join(home, "node_modules", "wiremock", "build", jar),
		"--bind-address", "127.0.0.1", "--port", "0", "--disable-banner", "--jetty-idle-timeout", "60000")
	cmd.Dir = home
	child.DieWithParent(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("wiremock: %w; install a Java runtime, such as openjdk-17-jre-headless", err)
	}
	s := &Server{cmd: cmd, exited: make(chan struct{})}
	port := make(chan string, 1)
	go func() {
		watch(out, port)
		_ = cmd.Wait()
		close(s.exited)
	}()
	select {
	case p := <-port:
		s.URL = "http://127.0.0.1:" + p
		return s, nil
	case <-s.exited:
		return nil, errors.New("wiremock: the process ended during its start: " + stderr.String())
	case <-ctx.Done():
		s.Stop()
		return nil, fmt.Errorf("wiremock: the process did not begin to listen: %w", ctx.Err())
	}
}

// watch reads the output until it ends, and sends the port that the output names to port.
func watch(out io.Reader, port chan<- string) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if p, ok := strings.CutPrefix(lines.Text(), "port:"); ok {
			port <- strings.TrimSpace(p)
		}
	}
}

// Stop ends the process and waits for its end. It sends SIGTERM, and after three seconds
// SIGKILL.
func (s *Server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
		return
	case <-time.After(3 * time.Second):
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// Map adds a stub mapping in WireMock's own form.
func (s *Server) Map(ctx context.Context, mapping any) error {
	return s.admin(ctx, http.MethodPost, "/mappings", mapping, nil)
}

// Request is a request that WireMock received.
type Request struct {
	Method  string         `json:"method"`
	URL     string         `json:"url"`
	Headers map[string]any `json:"headers"`
	Body    string         `json:"body"`
}

// Requests returns the requests to paths that begin with path, oldest first.
func (s *Server) Requests(ctx context.Context, path string) ([]Request, error) {
	var found struct {
		Requests []Request `json:"requests"`
	}
	err := s.admin(ctx, http.MethodPost, "/requests/find", map[string]any{"urlPathPattern": path + ".*"}, &found)
	return found.Requests, err
}

func (s *Server) admin(ctx context.Context, method, path string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL+"/__admin"+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusMultipleChoices:
		return fmt.Errorf("wiremock: %s %s was answered with the status %d: %s", method, path, resp.StatusCode, answer)
	case into == nil:
		return nil
	}
	return json.Unmarshal(answer, into)
}
