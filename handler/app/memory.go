package app

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// usualMemory is the memory of an instance as the templates choose it. It is used where the
// process has no memory limit.
const usualMemory = 2048 << 20

// memoryLimit returns how many bytes of memory the process may use: what GOMEMLIMIT or its
// control group says, whichever is less.
func memoryLimit() int64 {
	limit := debug.SetMemoryLimit(-1) // only reads the limit
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 {
			limit = min(limit, n)
		}
	}
	if limit > math.MaxInt64/2 { // control groups without a limit have a very large number
		return usualMemory
	}
	return limit
}
