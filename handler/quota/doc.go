// Package quota decides whether a request may proceed. All instances share the limits
// through one table. README.md explains the words and the mechanism.
//
// A counter has the state of all limits of one product for one counter key. It is one entity
// of the table, with its format version; for each limit {window, charged}, or {level, at} for
// a token bucket, which soft limits per minute use; the slots of each writer, {n, until}; the
// time of the last decision; the number of writes; and the last write id of each of the last
// 64 writers. One compare-and-swap decides all limits of a counter.
//
//	Check    refuses, before the body is read, what Reserve would refuse whatever the body says
//	Reserve  holds the cost in every counter: the estimate in soft limits, the bound in hard limits
//	Again    holds the cost once more for a further attempt, if the previous attempt was kept
//	Hedge    holds the cost once more for a second attempt beside the present one
//	Keep     leaves the hold of the present attempt charged
//	Settle   replaces the hold by the usage that the service reported
//	Release  gives the hold back
//	Done     is closed when a slot was lost, and the request must end
//
// A writer never repeats a write without reading the entity first. After a lost answer or a
// conflict it reads the entity. If the entity contains the write's id, the write was applied.
// If the entity has the same revision as before, the writer sends the same bytes again. If
// the entity would still contain the id of an applied write, the write was not applied.
// Otherwise the outcome cannot be found out. Then the writer makes holds and charges again,
// but not refunds, so that no limit is exceeded. It uses the result of a write only after
// the write is known to be applied.
//
// A killed process leaves its holds and leases charged until their windows end. Its slots
// are free after a minute. A hard limit never misses tokens that the process has used.
package quota
