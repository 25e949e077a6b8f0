package journal

import (
	"context"

	"aoaigateway/handler/journal/manifest"
)

// Files returns the writer's files that are not done, in the order in which they were
// opened, up to what is durable. The caller must derive from them: the process owns sealed
// files only as long as Files is called again and again.
func (w *Writer) Files() []manifest.File { return w.manifest.Files() }

// Advance moves the cursor of one of the writer's files to offset. The manifest entry is
// written within about a second.
func (w *Writer) Advance(name string, offset int64) { w.manifest.Advance(name, offset) }

// Finish marks one of the writer's files as done if it is sealed. The caller must have
// derived everything in it.
func (w *Writer) Finish(name string) { w.manifest.Finish(name) }

// Sync writes the manifest entries that have changed. It reports whether it could write all
// of them. It still works after Close.
func (w *Writer) Sync(ctx context.Context) bool { return w.manifest.Flush(ctx) }
