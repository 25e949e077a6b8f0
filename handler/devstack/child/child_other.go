//go:build !linux && !windows

package child

import (
	"os/exec"
	"syscall"
)

// DieWithParent keeps a terminal's Ctrl-C from cmd; ending it with a parent that was
// killed is more than this system can do.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
