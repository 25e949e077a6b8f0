//go:build linux

package process_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/tests/harness"
)

func TestGatewayEndsWithItsHost(t *testing.T) {
	w := harness.NewEnvironment(t, harness.StartAzurite(t).ConnectionString(), harness.TestPolicy)
	w.Region(1, aoaisim.Options{Name: "a"})
	port := harness.FreePort(t)
	host := exec.CommandContext(t.Context(), "sh", "-c", `"$0" & wait`, filepath.Join(harness.Staged(t), "bin", "gateway"))
	host.Env = w.Environ(settings.PortVariable+"="+port, settings.HostVariable+"=1")
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	serving := func() bool {
		resp, err := http.Get("http://127.0.0.1:" + port + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}
	harness.Until(t, "the gateway serves", serving)
	killed := time.Now()
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	harness.Until(t, "the gateway is gone", func() bool { return !serving() })
	harness.Report(t, "the gateway was gone %v after its host was killed", time.Since(killed).Round(time.Millisecond))
	if time.Since(killed) > time.Second {
		t.Errorf("the gateway was gone after %v", time.Since(killed))
	}
	_ = host.Wait()
}
