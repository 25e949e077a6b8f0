package journal

import (
	"log/slog"
	"sync"
)

// begun are the requests whose begin is durable and whose end is not. Only the committer
// changes them.
type inFlight struct {
	mu    sync.Mutex
	files map[string]string // id → file of its begin
}

func (b *inFlight) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.files)
}

// follow notes what a group that is durable in file began and ended.
func (b *inFlight) update(group []*Pending, file string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range group {
		switch {
		case p.id == "":
		case p.ends:
			delete(b.files, p.id)
		default:
			if b.files == nil {
				b.files = map[string]string{}
			}
			b.files[p.id] = file
		}
	}
}

// list has them by file, as far as they fit one member: more than 100,000 of ours do.
func (b *inFlight) list(logger *slog.Logger) map[string][]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := map[string][]string{}
	size, dropped := maxHeader, 0
	for id, file := range b.files {
		if len(open[file]) == 0 {
			size += len(file) + 8
		}
		if size += len(id) + 3; size > maxRaw {
			dropped++
			continue
		}
		open[file] = append(open[file], id)
	}
	if dropped > 0 {
		logger.Error("journal file does not tell of all open requests", "untold", dropped)
	}
	return open
}
