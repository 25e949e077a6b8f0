package template

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"aoaigateway/handler/devstack/tools"
)

//go:embed requirements.txt
var requirements []byte

// beyondScan are the templates that checkov's parser cannot read, for their lambdas, safe accesses,
// types and imports. The rules of this package hold for them all the same. No other template imports
// types, so that it stays within the scan.
var beyondScan = []string{"main.bicep", "network.bicep", "rows.bicep", "types.bicep"}

type scanReport struct {
	Summary struct {
		Passed int `json:"passed"`
		Unread int `json:"parsing_errors"` // files; the report does not name them
	} `json:"summary"`
	Results struct {
		Failed []struct {
			ID    string `json:"check_id"`
			Name  string `json:"check_name"`
			File  string `json:"file_path"`
			Lines []int  `json:"file_line_range"`
		} `json:"failed_checks"`
	} `json:"results"`
}

// Scan runs checkov, a policy scanner with rules of its own; what it may pass over is
// written into the templates, each with its reason.
func Scan(ctx context.Context, root string) ([]Finding, error) {
	home, err := installScanner(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(home, "bin", "python"), "-m", "checkov.main",
		"-d", filepath.Join(root, "infra"), "--framework", "bicep", "--quiet", "--compact", "--output", "json", "--skip-download")
	cmd.Env = append(os.Environ(), "LOG_LEVEL=CRITICAL")
	out, err := cmd.Output() // fails when there are findings, which the report has
	var report scanReport
	if jerr := json.Unmarshal(out, &report); jerr != nil {
		return nil, fmt.Errorf("checkov failed (%w), and its output cannot be parsed (%w)", err, jerr)
	}
	var found []Finding
	for _, f := range report.Results.Failed {
		line := 0
		if len(f.Lines) > 0 {
			line = f.Lines[0]
		}
		found = append(found, Finding{"infra/" + filepath.Base(f.File), line, f.ID + " " + f.Name})
	}
	if report.Summary.Unread != len(beyondScan) {
		found = append(found, Finding{"infra", 0, fmt.Sprintf("checkov could not read %d templates; expected are %v", report.Summary.Unread,
			beyondScan)})
	}
	if report.Summary.Passed == 0 {
		found = append(found, Finding{"infra", 0, "checkov checked nothing"})
	}
	return found, nil
}

// installScanner makes a Python environment with exactly what requirements.txt names.
func installScanner(ctx context.Context) (string, error) {
	version, err := exec.CommandContext(ctx, "python3", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("python3 is needed: %w", err)
	}
	return tools.Install(ctx, "checkov", append(slices.Clone(requirements), version...), func(dir string) error {
		list := filepath.Join(dir, "requirements.txt")
		if err := os.WriteFile(list, requirements, 0o600); err != nil {
			return err
		}
		for _, args := range [][]string{
			{"python3", "-m", "venv", dir},
			{filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", list},
		} {
			if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("checkov cannot be installed: %s: %w\n%s", strings.Join(args, " "), err, out)
			}
		}
		return nil
	})
}
