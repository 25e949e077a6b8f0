package child

import (
	"os/exec"
	"syscall"
)

// DieWithParent has the kernel end cmd when this process is gone, and keeps a terminal's
// Ctrl-C from it: whoever started it stops it.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
