// Package azurite installs and runs a pinned version of Azurite, Microsoft's emulator of
// Blob and Table Storage, for the local stack and for tests. It requires node and npm on
// PATH. The first use installs it below dist/tools.
package azurite

import (
	"bufio"
	"context"
	"embed"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"aoaigateway/handler/devstack/child"
	"aoaigateway/handler/devstack/tools"
)

//go:embed package.json package-lock.json
var manifest embed.FS

// The account that every Azurite has. Microsoft has published its key, so it is no secret.
const (
	Account = "devstoreaccount1"
	Key     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// Server is a running Azurite.
type Server struct {
	Blob, Table string // URLs of the services, with the account and without a trailing slash
	cmd         *exec.Cmd
	exited      chan struct{}
}

// ConnectionString returns the connection string for storage clients.
func (s *Server) ConnectionString() string {
	return fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;BlobEndpoint=%s;TableEndpoint=%s;",
		Account, Key, s.Blob, s.Table)
}

// Pid returns the id of the process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Stop ends the process and waits for its end. It sends SIGTERM, after which Azurite writes
// its data, and after three seconds SIGKILL.
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

// Options of Start. The zero value suits tests.
type Options struct {
	Dir       string // folder for the data; empty = the data is in memory only
	BlobPort  int    // 0 = any free port
	TablePort int
}

// Start installs Azurite if necessary, and runs it on 127.0.0.1 until Stop or until this
// process ends. ctx limits only the start.
func Start(ctx context.Context, o Options) (*Server, error) {
	home, err := tools.InstallNode(ctx, "azurite", manifest)
	if err != nil {
		return nil, err
	}
	args := []string{
		filepath.Join(home, "node_modules", "azurite", "dist", "src", "azurite.js"),
		"--blobHost", "127.0.0.1", "--queueHost", "127.0.0.1", "--tableHost", "127.0.0.1",
		"--blobPort", fmt.Sprint(o.BlobPort), "--queuePort", "0", "--tablePort", fmt.Sprint(o.TablePort),
		"--skipApiVersionCheck", "--disableTelemetry",
	}
	if o.Dir == "" {
		args = append(args, "--inMemoryPersistence")
	} else {
		args = append(args, "--location", o.Dir)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "node", args...) // not ended by ctx: Stop ends it
	cmd.Dir = home
	child.DieWithParent(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("azurite: %w", err)
	}
	s := &Server{cmd: cmd, exited: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		s.watch(bufio.NewScanner(out), ready)
		_ = cmd.Wait()
		close(s.exited)
	}()
	select {
	case <-ready:
		return s, nil
	case <-s.exited:
		return nil, errors.New("azurite: the process ended during its start: " + stderr.String())
	case <-ctx.Done():
		s.Stop()
		return nil, fmt.Errorf("azurite: the process did not begin to listen: %w", ctx.Err())
	}
}

var listening = regexp.MustCompile(`(Blob|Table) service (?:is )?successfully listen(?:ing|s)? (?:at|on) (http://\S+)`)

// watch reads Azurite's output until it ends, and closes ready when both services listen.
func (s *Server) watch(lines *bufio.Scanner, ready chan struct{}) {
	for lines.Scan() {
		m := listening.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		if url := m[2] + "/" + Account; m[1] == "Blob" {
			s.Blob = url
		} else {
			s.Table = url
		}
		if s.Blob != "" && s.Table != "" && ready != nil {
			close(ready)
			ready = nil
		}
	}
}
