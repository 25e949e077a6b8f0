package tools

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
)

// InstallNode installs the packages of manifest's package.json and package-lock.json
// without running their scripts. It returns the folder that contains node_modules.
func InstallNode(ctx context.Context, name string, manifest embed.FS) (string, error) {
	lock, err := manifest.ReadFile("package-lock.json")
	if err != nil {
		return "", err
	}
	return Install(ctx, name, lock, func(dir string) error {
		if err := os.CopyFS(dir, manifest); err != nil {
			return err
		}
		npm := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
		npm.Dir = dir
		if out, err := npm.CombinedOutput(); err != nil {
			return fmt.Errorf("npm ci: %w\n%s", err, out)
		}
		return nil
	})
}
