package body

import (
	"os"
	"path/filepath"
)

// prepare makes the directory of the files and removes what a killed process has left there.
// On Unix that is at most one empty file for each kill, because create removes a file's name
// before the file has content. On Windows the names remain until Close, so whole files can
// be left; files that another process has open cannot be removed there.
func prepare(dir string) {
	_ = os.MkdirAll(dir, 0o700) // if this fails, create fails too
	left, _ := filepath.Glob(filepath.Join(dir, "body-*"))
	for _, name := range left {
		_ = os.Remove(name)
	}
}

// create returns an empty file that only this process can open, and the function that gives
// it back.
func create(dir string) (f *os.File, remove func(), err error) {
	if f, err = os.CreateTemp(dir, "body-*"); err != nil {
		return nil, nil, err
	}
	named := os.Remove(f.Name()) != nil // Windows removes no open file
	return f, func() {
		_ = f.Close()
		if named {
			_ = os.Remove(f.Name())
		}
	}, nil
}
