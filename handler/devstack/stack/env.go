package stack

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

type variable struct{ name, value string }

// writeEnv writes a file of settings for `set -a; . file`, with each value in single
// quotes. It replaces the file by a rename, so that a reader sees all settings or none.
func writeEnv(file string, env []variable) error {
	var b strings.Builder
	b.WriteString("# Settings of the gateway for the local stack: set -a; . this file\n")
	for _, v := range env {
		b.WriteString(v.name + "='" + strings.ReplaceAll(v.value, "'", `'\''`) + "'\n")
	}
	return replaceFile(file, []byte(b.String()))
}

func replaceFile(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// takePid creates a lock file with the id of this process. It replaces the lock file of a
// process that does not exist any more. It returns false if another process holds the lock.
func takePid(lock string) bool {
	for range 2 {
		f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			_, werr := f.WriteString(strconv.Itoa(os.Getpid()))
			return errors.Join(werr, f.Close()) == nil
		}
		data, err := os.ReadFile(lock)
		if pid, perr := strconv.Atoi(string(data)); err == nil && (perr != nil || alive(pid)) {
			return false
		}
		_ = os.Remove(lock)
	}
	return false
}
