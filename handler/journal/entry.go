package journal

import "aoaigateway/handler/gateway"

// Entry is a line of the journal as others derive from it, complete in itself: an end has
// its request's content from its begin, an amend is the whole end with the new outcome.
type Entry struct {
	gateway.Line

	Offset int64  // of its member in the file
	Index  int    // in the member; with Offset it orders a file's entries
	Seq    int64  // of the member
	Hash   string // of the member
}
