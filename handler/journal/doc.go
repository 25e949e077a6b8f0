// Package journal appends records to append blobs, so that they are durable before an answer ends.
//
// # Files
//
// A file is named yyyy/mm/dd/hh/{process}-{n}.jsonl.gz: the hour (UTC) in which it was opened, an id drawn at each
// start of a process, and that process's count of files, from 0 without gaps. It is a sequence of gzip members (RFC
// 1952), so the whole file is valid gzip. Each member is one append and holds one batch: the records of one group
// commit. The lines of a batch are JSON objects. The first is its header,
//
//	{"type":"batch","version":1,"process":"…","file":n,"seq":n,"prev":"…"}
//
// where seq counts a process's batches over all its files from 0, and prev is the SHA-256 of the compressed bytes of
// the batch before (empty for the first). This chains the batches. The other lines are the records in the order in
// which they were appended. A file that was opened while requests were in flight begins with a batch without records,
// whose header lists these requests by the file that has their begin:
//
//	{"type":"batch",…,"inFlight":{"yyyy/mm/dd/hh/{process}-{n}.jsonl.gz":["id",…]}}
//
// So every file shows by itself which requests are in flight at its end.
//
// # Appends
//
// Once a batch was sent, its bytes do not change until the result of the append is known. After any failure the file's
// length shows it. If the file has grown by the batch and ends in it, the batch is durable. If the length is the same,
// the same bytes are sent again. In all other cases, and if another process sealed the file, the records go into the
// next file. So a record is in the journal exactly once, or at most once if its writer was killed.
//
// # Manifest
//
// Each file has an entry in the manifest: partition yyyy-mm-dd, row hh-{process}-{n}. It is inserted before the blob is
// created, with
//
//	version             format version of the entry
//	seq, length, hash   the checkpoint: the last batch that the entry covers, and where that ends
//	processed           the cursor: everything before it is derived
//	owner, until        who derives: the writer, for 2 minutes after its last write of the entry,
//	                    or a recovery, for 60 s after its last
//	state               open: the writer may append; sealed: nothing is appended any more;
//	                    done: and everything is derived
//	adopted             a recovery found the blob without an entry
//
// The partition "days" has one entry for each day, {settled}, so that nobody has to read all partitions.
//
// The writer writes its entries beside the appends: within a second after the last append, at most once a second, and
// every 30 s while requests are in flight. An append never waits for an entry. A new file waits up to 2 s for its entry
// and is then used without one. The entry is inserted when the table answers again; if the process dies before that, a
// recovery finds the blob and adopts it. An entry changes by compare-and-swap only, and each owner has one writer. So an
// owner that finds another owner's entry has lost the file and does not write the entry again.
//
// A file is sealed in its entry once the next file has its first batch, which lists the requests in flight; or after
// 100 s without a line, or at a regular stop, if no request is in flight. So the last file of a process that died is
// the only one whose requests in flight no other file lists. A recovery seals the blob of a dead process's file first
// and reads its length after that.
package journal
