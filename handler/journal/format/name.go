package format

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// Name is the name of a journal file, yyyy/mm/dd/hh/{process}-{n}.jsonl.gz, in its parts.
type Name struct {
	Hour    time.Time // UTC, when the file was opened
	Process string    // random for each start of a process
	Number  int       // of the file among those of its process, from 0
}

// Extension is the end of the names of journal files.
const Extension = ".jsonl.gz"

const hourLayout = "2006/01/02/15"

// String returns the whole name.
func (n Name) String() string { return n.Hour.Format(hourLayout) + "/" + n.Base() + Extension }

// Base returns {process}-{n}. The number is padded, so that names sort in the order in which the files were opened.
func (n Name) Base() string { return fmt.Sprintf("%s-%06d", n.Process, n.Number) }

// ParseName returns the parts of a name, or false if it is not the name of a journal file.
func ParseName(name string) (Name, bool) {
	base, ok := strings.CutSuffix(path.Base(name), Extension)
	dash := strings.LastIndexByte(base, '-')
	hour, err := time.Parse(hourLayout, path.Dir(name))
	if !ok || dash < 1 || err != nil {
		return Name{}, false
	}
	number, err := strconv.Atoi(base[dash+1:])
	n := Name{Hour: hour, Process: base[:dash], Number: number}
	return n, err == nil && n.String() == name
}
