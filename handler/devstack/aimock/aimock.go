// Package aimock installs and runs a pinned version of aimock (@copilotkit/aimock), a
// simulator of the OpenAI API with paths of Azure. It is a region of another make, for tests
// that should not depend only on our own simulated regions. It requires npm and Node.
package aimock

import (
	"bufio"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"aoaigateway/handler/devstack/child"
	"aoaigateway/handler/devstack/tools"
)

//go:embed package.json package-lock.json
var manifest embed.FS

//go:embed fixtures.json
var fixtures []byte

// Answer is what the server answers to every prompt but "call a tool".
const Answer = "The answer of a region that we did not write."

// Server is a running aimock.
type Server struct {
	URL    string // without a trailing slash
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start installs aimock if necessary, and runs it on 127.0.0.1 until Stop or until this
// process ends. dir is a folder for its fixtures. ctx limits only the start.
func Start(ctx context.Context, dir string) (*Server, error) {
	home, err := tools.InstallNode(ctx, "aimock", manifest)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "fixtures.json")
	if err := os.WriteFile(file, fixtures, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "node", // not ended by ctx: Stop ends it
		filepath.Join(home, "node_modules", "@copilotkit", "aimock", "dist", "cli.js"), "--port", "0", "--fixtures", file, "--strict")
	child.DieWithParent(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("aimock: %w; install Node 20 or newer", err)
	}
	s := &Server{cmd: cmd, exited: make(chan struct{})}
	url := make(chan string, 1)
	go func() {
		watch(out, url)
		_ = cmd.Wait()
		close(s.exited)
	}()
	select {
	case s.URL = <-url:
		return s, nil
	case <-s.exited:
		return nil, errors.New("aimock: the process ended during its start")
	case <-ctx.Done():
		s.Stop()
		return nil, fmt.Errorf("aimock: the process did not begin to listen: %w", ctx.Err())
	}
}

// watch reads the output until it ends, and sends the address that the output names to url.
func watch(out io.Reader, url chan<- string) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, address, ok := strings.Cut(lines.Text(), "listening on "); ok {
			url <- strings.TrimSpace(address)
		}
	}
}

// Stop ends the process and waits for its end.
func (s *Server) Stop() {
	_ = s.cmd.Process.Kill()
	select {
	case <-s.exited:
	case <-time.After(5 * time.Second):
	}
}
