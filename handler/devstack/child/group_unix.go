//go:build !windows

package child

import (
	"os/exec"
	"syscall"
)

// Terminate asks cmd, and what it started in its process group, to end.
func Terminate(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }

// Kill ends cmd and what it started in its process group.
func Kill(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
