package format

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// Name has the parts of the name of a journal file, yyyy/mm/dd/hh/{process}-{n}.jsonl.gz.
type Name struct {
	Hour    time.Time // UTC hour in which the file was opened
	Process string    // random id, new at each start of a process
	Number  int       // number of the file among those of its process, from 0
}

// Extension is the end of every journal file's name.
const Extension = ".jsonl.gz"

const hourLayout = "2006/01/02/15"

// String returns the whole name of the file.
func (n Name) String() string { return n.Hour.Format(hourLayout) + "/" + n.Base() + Extension }

// Base returns {process}-{n}. The number has leading zeros, so that names sort in the order
// in which the files were opened.
func (n Name) Base() string { return fmt.Sprintf("%s-%06d", n.Process, n.Number) }

// ParseName returns the parts of name, or false if name does not belong to a journal file.
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
