// Package journal appends records to append blobs so that they are durable before an
// answer ends.
//
// A file is named yyyy/mm/dd/hh/{process}-{n}.jsonl.gz: the hour (UTC) it was opened in, an
// id drawn at each start of a process, and that process's count of files. It is a run of
// gzip members, so it is valid gzip, and each member is one append: a group commit. A
// member's lines are JSON objects. The first is its header,
//
//	{"type":"member","process":"…","file":n,"seq":n,"prev":"…"}
//
// where seq counts a process's members over all its files from 0 and prev is the SHA-256 of
// the compressed bytes of the member before (empty for the first), which chains them. The
// other lines are the records, in the order they were appended.
//
// The bytes of a member are frozen once sent, until it is known what became of them: after
// any failure the file's length is read. Grown by the member and ending in it: durable. As
// before: the same bytes are sent again. Anything else, or sealed by another: the records
// go into the next file. So a record is in the journal exactly once, and one whose writer
// was killed at most once.
package journal
