package e2e_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"aoaigateway/handler/tests/harness"
)

// sampleVariable says whether TestMarkSample passes or fails.
const sampleVariable = "GATEWAY_TEST_SAMPLE"

func TestMarkSample(t *testing.T) {
	result := os.Getenv(sampleVariable)
	if result == "" {
		t.Skip("TestMarksAreChecked runs it")
	}
	harness.ExpectFailure(t, harness.Record)
	if result == "fail" {
		t.Error("it fails as expected")
	}
}

// A run fails when a marked test passes.
func TestMarksAreChecked(t *testing.T) {
	for result, want := range map[string]string{"fail": "--- SKIP: TestMarkSample", "pass": "--- FAIL: TestMarkSample"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMarkSample$", "-test.v")
		cmd.Env = append(os.Environ(), sampleVariable+"="+result)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || (err == nil) != (result == "fail") {
			t.Errorf("%s: %v\n%s", result, err, out)
		}
	}
}
