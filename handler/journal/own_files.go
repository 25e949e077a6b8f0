package journal

import (
	"context"

	"aoaigateway/handler/journal/manifest"
)

// Files returns the writer's files that are not done, in the order they were opened, as far as they are durable. The
// caller must derive from them: the writer keeps its claim on sealed files while Files is called.
func (w *Writer) Files() []manifest.File { return w.manifest.Files() }

// Advance moves the cursor of one of the writer's files to offset. The manifest follows within about a second.
func (w *Writer) Advance(name string, offset int64) { w.manifest.Advance(name, offset) }

// Finish marks one of the writer's files as done if it is sealed: everything in it is derived and nothing will follow.
func (w *Writer) Finish(name string) { w.manifest.Finish(name) }

// Sync writes the manifest entries that changed, and reports whether it wrote all of them. It works after Close, too.
func (w *Writer) Sync(ctx context.Context) bool { return w.manifest.Flush(ctx) }
