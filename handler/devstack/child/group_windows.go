package child

import "os/exec"

// Terminate ends cmd at once, because Windows has no SIGTERM.
func Terminate(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

// Kill ends cmd at once.
func Kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
