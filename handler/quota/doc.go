// Package quota decides whether a request may go on, exactly, over any number of
// instances that share nothing but one table.
//
// Every product × by × value is a scope, and a scope is one entity: for each of its
// limits a counter, {window, charged} or for a soft limit per minute a token bucket
// {level, at}; for concurrent ones the slots of each writer, {n, until}; the time of the
// last decision; a count of the writes and the last id of each of the last 64 writers. One
// compare-and-swap decides all limits of a scope.
//
//	Reserve  holds the cost in every scope: the estimate in soft limits, the bound in hard ones
//	Again    holds it once more, for a further attempt after one that was kept
//	Keep     this attempt's hold stays, whatever comes
//	Settle   the hold becomes what the service counted
//	Cancel   the hold goes back
//	Done     a slot was lost: the request must be cut
//
// While requests come quickly an instance leases: it has the entity charged with what its
// requests of about 2 s will hold, and makes holds and settles them within that, without
// the table. A lease lives 2 s and never past its window; what is left of it goes back.
// Near a limit nothing is leased: then each hold is charged as it is needed.
//
// Writes are never repeated blindly. After a lost answer or a conflict the entity is
// read: the write's id is there = applied; absent, and it would still be there = not
// applied; the same revision = the same bytes are sent again; else whatever grants less:
// holds and charges are made again, refunds dropped. What comes of a write is used only
// once it is certain.
//
// A process killed at any point leaves at most its holds and its lease behind, charged
// until their windows end, and slots that are free again after a minute. Nothing it
// granted is ever missing from a hard limit's counter.
package quota
