package stack_test

import (
	"archive/zip"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/devstack/stack"
)

const fake = "./handler/devstack/stack/testdata/fake"

func stageFake(t *testing.T, change func(*stack.StageOptions)) string {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := stack.StageOptions{Package: fake, Policy: policy, Out: filepath.Join(t.TempDir(), "app")}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir, err := stack.Stage(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStageLayout(t *testing.T) {
	dir := stageFake(t, nil)
	modes := map[string]fs.FileMode{
		"host.json": 0o644, "bin/gateway": 0o755, "policy.yaml": 0o644,
		"openai/function.json": 0o644, "manage/function.json": 0o644, "healthz/function.json": 0o644, "sweep/function.json": 0o644,
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			if info.Mode().Perm() != 0o755 {
				t.Errorf("folder %s has mode %v", name, info.Mode())
			}
			return nil
		}
		want, ok := modes[name]
		if !ok || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), want)
		}
		delete(modes, name)
		return nil
	})
	if err != nil || len(modes) > 0 {
		t.Errorf("missing %v, %v", modes, err)
	}
	binary, err := elf.Open(filepath.Join(dir, "bin", "gateway"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = binary.Close() }()
	if libs, _ := binary.ImportedLibraries(); len(libs) > 0 || binary.Machine != elf.EM_X86_64 {
		t.Errorf("needs %v on %v; want a static amd64 executable", libs, binary.Machine)
	}
}

func TestZipIsReproducible(t *testing.T) {
	first, err := os.ReadFile(stageFake(t, nil) + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(stageFake(t, func(o *stack.StageOptions) { o.Here, o.OS, o.Arch = true, "linux", "amd64" }) + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(first), int64(len(first)))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]fs.FileMode{}
	for _, f := range z.File {
		names[f.Name] = f.Mode()
		if f.CreatorVersion>>8 != 3 {
			t.Errorf("%s is not marked as made on Unix", f.Name)
		}
	}
	if names["bin/gateway"] != 0o755 || names["host.json"] != 0o644 || names["openai/function.json"] != 0o644 || len(names) != 7 {
		t.Errorf("%v", names)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same tree gave two zips; local settings must not be in it")
	}
}

func TestStageForFuncStart(t *testing.T) {
	dir := stageFake(t, func(o *stack.StageOptions) { o.Here = true })
	data, err := os.ReadFile(filepath.Join(dir, "local.settings.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Values map[string]string }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for name := range file.Values {
		if strings.HasPrefix(name, "AzureFunctionsJobHost__customHandler__http__") {
			t.Errorf("%s was left", name)
		}
	}
	if file.Values["GATEWAY_POLICY"] != "policy.yaml" || file.Values["FUNCTIONS_WORKER_RUNTIME"] != "custom" {
		t.Errorf("%v", file.Values)
	}
}

func TestStageForWindows(t *testing.T) {
	dir := stageFake(t, func(o *stack.StageOptions) { o.OS = "windows" })
	host, err := os.ReadFile(filepath.Join(dir, "host.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(host, []byte(`"bin/gateway.exe"`)) {
		t.Errorf("%s", host)
	}
	if _, err := os.Stat(filepath.Join(dir, "bin", "gateway.exe")); err != nil {
		t.Error(err)
	}
}
