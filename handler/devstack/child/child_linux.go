package child

import (
	"os/exec"
	"syscall"
)

// DieWithParent makes the kernel kill cmd when this process ends. It also keeps Ctrl-C in a
// terminal from reaching cmd, because the process that started cmd stops it.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
