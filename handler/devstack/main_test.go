package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// azd and make go on after a step that fails silently.
func TestFailureIsExitCode(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "devstack")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for args, want := range map[string]string{"nonsense": "usage:", "inputs": "AZURE_ENV_NAME is not set"} {
		cmd := exec.CommandContext(t.Context(), binary, args)
		cmd.Env = append(cmd.Environ(), "AZURE_ENV_NAME=")
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), want) {
			t.Errorf("devstack %s: exit code %d, %q", args, cmd.ProcessState.ExitCode(), out)
		}
	}
}
