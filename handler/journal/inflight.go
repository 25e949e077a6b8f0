package journal

import (
	"log/slog"
	"sync"

	"aoaigateway/handler/journal/format"
)

// inFlight has the requests that have a durable begin record and no durable end record.
// Only the committer changes it.
type inFlight struct {
	mu    sync.Mutex
	files map[string]string // request id → name of the file with the begin record
}

func (f *inFlight) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.files)
}

// update adds the requests that begin in a durable group, and removes those that end in it.
// The group is in file.
func (f *inFlight) update(group []*Pending, file string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range group {
		switch {
		case p.id == "":
		case p.ends:
			delete(f.files, p.id)
		default:
			if f.files == nil {
				f.files = map[string]string{}
			}
			f.files[p.id] = file
		}
	}
}

// list returns the ids by file. It returns at most what fits into one batch, which is more
// than 100,000 ids.
func (f *inFlight) list(logger *slog.Logger) map[string][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := map[string][]string{}
	size, dropped := format.MaxHeader, 0
	for id, file := range f.files {
		if len(ids[file]) == 0 {
			size += len(file) + 8
		}
		if size += len(id) + 3; size > format.MaxRaw {
			dropped++
			continue
		}
		ids[file] = append(ids[file], id)
	}
	if dropped > 0 {
		logger.Error("too many requests are in flight: the new journal file does not list all of them", "missing", dropped)
	}
	return ids
}
