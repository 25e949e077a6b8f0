//go:build !linux

package child

import "os/exec"

// DieWithParent does nothing here: only Linux can end a process with its parent.
func DieWithParent(*exec.Cmd) {}
