package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"aoaigateway/handler/tests/harness"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gateway-app-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	harness.AppDir = filepath.Join(dir, "app")
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}
