package stack

import "os"

// alive: on Windows finding a process opens it, which fails when it is gone.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err == nil {
		_ = p.Release()
	}
	return err == nil
}
