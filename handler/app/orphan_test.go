//go:build linux

package app

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// With this variable the test binary is a process that ends with its parent.
const orphanVariable = "TEST_ORPHAN"

func TestMain(m *testing.M) {
	if os.Getenv(orphanVariable) == "" {
		os.Exit(m.Run())
	}
	_, _ = os.Stdout.WriteString("ready\n")
	select {
	case <-orphaned(context.Background(), true):
	case <-time.After(30 * time.Second):
	}
}

func TestProcessEndsWithItsHost(t *testing.T) {
	// The shell is the parent; the pipe ends when the process, its only other owner, has ended.
	shell := exec.CommandContext(t.Context(), "sh", "-c", `"$0" & echo started; wait`, os.Args[0])
	// A process under the race detector waits a second before it exits, unless told otherwise.
	shell.Env = append(os.Environ(), orphanVariable+"=1", "GORACE=atexit_sleep_ms=0")
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; n < 2 && lines.Scan(); n++ { // started, ready
	}
	time.Sleep(2 * parentCheck)
	if err := shell.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	for lines.Scan() {
	}
	if took := time.Since(killed); took > time.Second {
		t.Errorf("the process ended %v after its host", took)
	}
	_ = shell.Wait()
}
