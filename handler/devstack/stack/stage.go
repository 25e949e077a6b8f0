package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"aoaigateway/handler/devstack/tools"
)

// StageOptions of Stage. The zero value stages the app that is deployed to Azure.
type StageOptions struct {
	OS, Arch string // default: linux, amd64
	Here     bool   // true = for `func start` on this machine: with its OS and architecture, and with local settings
	Out      string // default: dist/app; the zip file is written beside this folder
	Package  string // the Go package to build; default ./handler
	Policy   string // default: infra/policy.yaml
	Race     bool   // true = with the race detector, which needs a C compiler
}

func (o StageOptions) withDefaults(root string) StageOptions {
	if o.Here {
		o.OS, o.Arch = runtime.GOOS, runtime.GOARCH
	}
	if o.OS == "" {
		o.OS = "linux"
	}
	if o.Arch == "" {
		o.Arch = "amd64"
	}
	if o.Out == "" {
		o.Out = filepath.Join(root, "dist", "app")
	}
	if o.Package == "" {
		o.Package = "./handler"
	}
	if o.Policy == "" {
		o.Policy = filepath.Join(root, "infra", "policy.yaml")
	}
	return o
}

// routeSettings is the prefix of settings in local.settings.sample.json. With them `func
// start` at the module's root serves HTTP without function.json files. In a staged app they
// would conflict with these files.
const routeSettings = "AzureFunctionsJobHost__customHandler__http__"

// Stage builds the gateway and writes the app into a new folder, which then replaces the
// old app. It returns the app's folder.
func Stage(ctx context.Context, o StageOptions) (string, error) {
	root, err := tools.Root()
	if err != nil {
		return "", err
	}
	o = o.withDefaults(root)
	parent := filepath.Dir(o.Out)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(parent, ".staging-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := layOut(ctx, root, tmp, o); err != nil {
		return "", fmt.Errorf("stage: %w", err)
	}
	if err := writeZip(tmp, o.Out+".zip"); err != nil {
		return "", fmt.Errorf("stage: %w", err)
	}
	if o.Here {
		if err := stageSettings(root, tmp); err != nil {
			return "", fmt.Errorf("stage: %w", err)
		}
	}
	if err := os.RemoveAll(o.Out); err != nil {
		return "", err
	}
	return o.Out, os.Rename(tmp, o.Out)
}

func layOut(ctx context.Context, root, dir string, o StageOptions) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	executable := "bin/gateway"
	if o.OS == "windows" {
		executable += ".exe"
	}
	if err := build(ctx, root, filepath.Join(dir, filepath.FromSlash(executable)), o); err != nil {
		return err
	}
	host, err := os.ReadFile(filepath.Join(root, "host.json"))
	if err != nil {
		return err
	}
	text := strings.Replace(string(host), `"bin/gateway"`, `"`+executable+`"`, 1)
	if err := writeFile(filepath.Join(dir, "host.json"), []byte(text)); err != nil {
		return err
	}
	if err := copyFile(o.Policy, filepath.Join(dir, "policy.yaml")); err != nil {
		return err
	}
	return copyFunctions(filepath.Join(root, "functions"), dir)
}

func build(ctx context.Context, root, to string, o StageOptions) error {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=" + version(ctx, root), "-o", to}
	cgo := "CGO_ENABLED=0"
	if o.Race {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	cmd := exec.CommandContext(ctx, "go", append(args, o.Package)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), cgo, "GOOS="+o.OS, "GOARCH="+o.Arch, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s for %s/%s: %w\n%s", o.Package, o.OS, o.Arch, err, out)
	}
	return os.Chmod(to, 0o755)
}

// version returns the version that git describes, or "dev" if there is no git repository.
func version(ctx context.Context, root string) string {
	cmd := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--tags")
	cmd.Dir = root
	out, err := cmd.Output()
	if v := strings.TrimSpace(string(out)); err == nil && v != "" {
		return v
	}
	return "dev"
}

func copyFunctions(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		file := filepath.Join(from, e.Name(), "function.json")
		if _, err := os.Stat(file); !e.IsDir() || err != nil {
			continue
		}
		found = true
		if err := copyFile(file, filepath.Join(to, e.Name(), "function.json")); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("there is no function.json below %s", from)
	}
	return nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, data)
}

// writeFile writes a file that every user can read, because the host may run as another
// user.
func writeFile(to string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(to, data, 0o644); err != nil {
		return err
	}
	return os.Chmod(to, 0o644)
}

// stageSettings copies local.settings.json, or the sample if that does not exist, into the
// staged app. It leaves out the settings that conflict with function.json files, and
// changes the path of the policy.
func stageSettings(root, dir string) error {
	data, err := os.ReadFile(filepath.Join(root, "local.settings.json"))
	if errors.Is(err, os.ErrNotExist) {
		data, err = os.ReadFile(filepath.Join(root, "local.settings.sample.json"))
	}
	if err != nil {
		return err
	}
	var file map[string]any
	if err := json.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("local.settings.json: %w", err)
	}
	values, _ := file["Values"].(map[string]any)
	for name := range values {
		if strings.HasPrefix(name, routeSettings) {
			delete(values, name)
		}
	}
	if _, ok := values["GATEWAY_POLICY"]; ok {
		values["GATEWAY_POLICY"] = "policy.yaml"
	}
	out, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "local.settings.json"), append(out, '\n'), 0o600)
}
