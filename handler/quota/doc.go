// Package quota decides whether a request may proceed. All instances share the limits
// through one table. README.md explains the words and the mechanism.
//
// Every product × counter key is a counter, and a counter is one entity: its format
// version; for each limit {window, charged}, or for a soft limit per minute a token bucket
// {level, at}; the slots of each writer, {n, until}; the time of the last decision; the
// number of writes; and the last id of each of the last 64 writers. One compare-and-swap
// decides all limits of a counter.
//
//	Reserve  holds the cost in every counter: the estimate in soft limits, the bound in hard ones
//	Again    holds it once more, for a further attempt after one that was kept
//	Hedge    holds it once more, for an attempt beside the present one
//	Keep     the present attempt's hold stays charged
//	Settle   the hold becomes what the service counted
//	Release  the hold goes back
//	Done     a slot was lost, and the request must end
//
// A write is never repeated blindly. After a lost answer or a conflict the entity is read.
// If it contains the write's id, the write was applied. If it has the same revision as
// before, the same bytes are sent again. If the id would still be there, the write was not
// applied. Otherwise nothing can tell, and the writer assumes what grants less: holds and
// charges are made again, refunds are not. The result of a write is used only once it is
// certain.
//
// A killed process leaves at most its holds and its leases behind. They stay charged until
// their windows end; its slots are free after a minute. Nothing that it granted is missing
// from a hard limit.
package quota
