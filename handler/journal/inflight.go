package journal

import (
	"log/slog"
	"sync"

	"aoaigateway/handler/journal/format"
)

// inFlight has the requests whose begin is durable and whose end is not. Only the committer changes it.
type inFlight struct {
	mu    sync.Mutex
	files map[string]string // request id → file with its begin
}

func (f *inFlight) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.files)
}

// update adds the begins of a group that is durable in file, and removes those that the group ended.
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

// list returns the ids by file, as many as fit one batch: more than 100,000 of the gateway's ids do.
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
		logger.Error("a journal file does not list all requests in flight", "missing", dropped)
	}
	return ids
}
