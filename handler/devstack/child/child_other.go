//go:build !linux && !windows

package child

import (
	"os/exec"
	"syscall"
)

// DieWithParent keeps Ctrl-C in a terminal from reaching cmd. On this system it cannot make
// cmd end when this process is killed.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
