package azurite

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel end cmd when this process is killed: no test leaves a server behind.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
