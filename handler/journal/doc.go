// Package journal appends records to append blobs so that they are durable before an
// answer ends.
//
// A file is named yyyy/mm/dd/hh/{process}-{n}.jsonl.gz: the hour (UTC) it was opened in, an
// id drawn at each start of a process, and that process's count of files, from 0 without a
// gap. It is a run of gzip members, so it is valid gzip, and each member is one append: a
// group commit. A member's lines are JSON objects. The first is its header,
//
//	{"type":"member","process":"…","file":n,"seq":n,"prev":"…"}
//
// where seq counts a process's members over all its files from 0 and prev is the SHA-256 of
// the compressed bytes of the member before (empty for the first), which chains them. The
// other lines are the records, in the order they were appended. A file opened while
// requests are in flight begins with a member that has no records and whose header lists
// them, by the file in which their begin stands:
//
//	{"type":"member",…,"open":{"yyyy/mm/dd/hh/{process}-{n}.jsonl.gz":["id",…]}}
//
// So any file tells by itself what is open at its end.
//
// The bytes of a member are frozen once sent, until it is known what became of them: after
// any failure the file's length is read. Grown by the member and ending in it: durable. As
// before: the same bytes are sent again. Anything else, or sealed by another: the records
// go into the next file. So a record is in the journal exactly once, and one whose writer
// was killed at most once.
//
// # Rows
//
// Each file has a row ([File], [Rows]): partition yyyy-mm-dd, row hh-{process}-{n}, inserted
// before the blob is made, with
//
//	seq, length, hash   the head: the last member it vouches for, and where that ends
//	shipped             the cursor: everything before is derived
//	owner, until        who derives: the writer, for 2 minutes from its last write of the row,
//	                    or a sweep, for 60 s from its last
//	state               open: the writer may append; sealed: nothing is appended any more;
//	                    done: and all is derived
//	adopted             a sweep found the blob without a row
//
// The partition "days" has one row a day, {settled}, so that nobody has to read them all.
//
// The writer's keeper writes its rows beside the appends: within a second of the last, at
// most once a second, and every 30 s while requests are in flight. An append never waits for
// it; a new file waits up to 2 s for its row's insert, and then goes on without one: the
// keeper inserts it when the store is back, and if the process dies before, a sweep finds
// the blob and adopts it. A row changes by compare-and-swap only, and each owner has one
// writer, so a row that is another's was taken, and is left alone from then on.
//
// A file is closed, sealed in its row, when the next has its first member, which lists what
// is open; or after 100 s without a line, or in good order at the end, if nothing is open.
// So only the last file of a process that died leaves requests open of which no file tells.
// Whoever takes a dead process's file seals the blob first and then reads its length.
package journal
