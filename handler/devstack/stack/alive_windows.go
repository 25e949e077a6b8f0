package stack

import "os"

// alive reports whether the process exists. On Windows, os.FindProcess fails if it does
// not.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err == nil {
		_ = p.Release()
	}
	return err == nil
}
