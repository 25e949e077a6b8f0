// Package tools installs pinned third-party packages below dist/tools, once for each lock
// file. It fills a new folder and renames it when it is complete, so that processes that
// start at the same time never see an incomplete installation.
package tools

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Root returns the module's root: the nearest folder with a go.mod, from the working
// directory upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, serr := os.Stat(filepath.Join(dir, "go.mod")); serr == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("there is no go.mod in the working directory or above it; run this inside the module")
		}
		dir = parent
	}
	return "", err
}

// Install returns the folder dist/tools/<name>-<hash of lock>. If the folder does not
// exist, it calls fill to fill it.
func Install(ctx context.Context, name string, lock []byte, fill func(dir string) error) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lock)
	home := filepath.Join(root, "dist", "tools", name+"-"+hex.EncodeToString(sum[:4]))
	if exists(home) {
		return home, nil
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o750); err != nil {
		return "", err
	}
	unlock, err := takeLock(ctx, home+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(home) {
		return home, nil
	}
	tmp, err := os.MkdirTemp(filepath.Dir(home), name+"-install-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := fill(tmp); err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	return home, os.Rename(tmp, home)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// takeLock waits until it can create the lock file name, and returns the function that
// removes it. It ignores a lock that is older than ten minutes, because a killed process
// has left it.
func takeLock(ctx context.Context, name string) (func(), error) {
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			return func() { _ = f.Close(); _ = os.Remove(name) }, nil
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > 10*time.Minute {
			_ = os.Remove(name)
			continue
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the lock %s is held by another installation: %w", name, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
