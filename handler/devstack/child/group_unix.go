//go:build !windows

package child

import (
	"os/exec"
	"syscall"
)

// Terminate sends SIGTERM to cmd and its process group.
func Terminate(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }

// Kill sends SIGKILL to cmd and its process group.
func Kill(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
