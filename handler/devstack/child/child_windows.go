package child

import "os/exec"

// DieWithParent does nothing here.
func DieWithParent(*exec.Cmd) {}
