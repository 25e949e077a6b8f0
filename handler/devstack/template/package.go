package template

import (
	"archive/zip"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// packed is what the host needs, and its modes; there is nothing else in a package.
var packed = map[string]fs.FileMode{
	"host.json": 0o644, "policy.yaml": 0o644, "bin/gateway": 0o755,
	"openai/function.json": 0o644, "manage/function.json": 0o644, "healthz/function.json": 0o644, "sweep/function.json": 0o644,
}

// MaxPackage is the most that a package may weigh: it is fetched at each cold start.
const MaxPackage = 40 << 20

// CheckPackage checks a staged app: the folder that azd zips, and the zip beside it.
func CheckPackage(dir string) ([]Finding, error) {
	var found []Finding
	modes := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		modes[filepath.ToSlash(name)] = info.Mode()
		return err
	})
	if err != nil {
		return nil, err
	}
	found = append(found, checkModes("dist/app", modes)...)
	found = append(found, checkHost(dir, "dist/app/host.json")...)
	found = append(found, checkFunctions(dir, "dist/app/")...)
	found = append(found, checkBinary(filepath.Join(dir, "bin", "gateway"))...)
	inZip, err := checkZip(dir + ".zip")
	return append(found, inZip...), err
}

func checkZip(path string) ([]Finding, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = z.Close() }()
	modes := map[string]fs.FileMode{}
	for _, f := range z.File {
		modes[f.Name] = f.Mode()
	}
	found := checkModes("dist/app.zip", modes)
	info, err := os.Stat(path)
	if err == nil && info.Size() > MaxPackage {
		found = append(found, Finding{"dist/app.zip", 0, fmt.Sprintf("%d bytes are more than %d", info.Size(), MaxPackage)})
	}
	return found, err
}

func checkModes(where string, modes map[string]fs.FileMode) (found []Finding) {
	for name, want := range packed {
		have, ok := modes[name]
		switch {
		case !ok:
			found = append(found, Finding{where + "/" + name, 0, "is missing"})
		case !have.IsRegular():
			found = append(found, Finding{where + "/" + name, 0, "is no regular file"})
		case want == 0o755 && have.Perm()&0o111 == 0:
			found = append(found, Finding{where + "/" + name, 0, fmt.Sprintf("has mode %v: without its exec bit the host cannot start it, and "+
				"says so nowhere", have)})
		case have.Perm() != want:
			found = append(found, Finding{where + "/" + name, 0, fmt.Sprintf("has mode %v, must have %v", have.Perm(), want)})
		}
	}
	for name := range modes {
		if _, ok := packed[name]; !ok {
			found = append(found, Finding{where + "/" + name, 0, "does not belong into the package"})
		}
	}
	slices.SortFunc(found, func(a, b Finding) int { return compare(a.String(), b.String()) })
	return found
}

func checkBinary(path string) []Finding {
	const name = "dist/app/bin/gateway"
	f, err := elf.Open(path)
	if err != nil {
		return []Finding{{name, 0, err.Error()}}
	}
	defer func() { _ = f.Close() }()
	if libs, _ := f.ImportedLibraries(); len(libs) > 0 || f.Machine != elf.EM_X86_64 {
		return []Finding{{name, 0, fmt.Sprintf("needs %v on %v; the host has neither: it must be static, for amd64", libs, f.Machine)}}
	}
	return nil
}
