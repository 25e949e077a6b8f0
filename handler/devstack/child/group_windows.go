package child

import "os/exec"

// Terminate ends cmd: there is no asking on Windows.
func Terminate(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

// Kill ends cmd.
func Kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
