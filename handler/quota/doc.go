// Package quota decides whether a request may go on, exactly, over any number of
// instances that share nothing but one table.
//
// Every product × by × value is a scope, and a scope is one entity: for each of its
// limits a counter, {window, charged} or for a soft limit per minute a token bucket
// {level, at}; the time of the last decision; a count of the writes and the ids of the
// last 32. One compare-and-swap decides all limits of a scope.
//
//	Reserve  holds the cost in every scope: the estimate in soft limits, the bound in hard ones
//	Again    holds it once more, for a further attempt after one that was kept
//	Keep     this attempt's hold stays, whatever comes
//	Settle   the hold becomes what the service counted
//	Cancel   the hold goes back
//
// Writes are never repeated blindly. After a lost answer or a conflict the entity is
// read: the write's id is there = applied; absent and at most 32 writes since = not
// applied; the same revision = the same bytes are sent again; else whatever grants less:
// holds and charges are made again, refunds dropped.
//
// A process killed at any point leaves at most its holds behind, charged until their
// windows end. Nothing it granted is ever missing from a hard limit's counter.
package quota
