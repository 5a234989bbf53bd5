// Package window keeps the sums of the operations that an account created within a time, as cheaply as the list of the
// API allows. It knows nothing of metrics, files or HTTP.
//
// The API lists operations a page at a time and does not say what has changed. Reading a day of 864,000 operations takes
// 865 requests. A Window reads what may have changed instead: young operations often, old ones seldom, and those in
// flight at every refresh. That takes 45 requests.
//
// A Window (window.go) is plain data, its state. Each refresh has a reader, which plans what to read, has workers read it,
// and hands each list to the state when it has ended. The result is a Snapshot (snapshot.go).
//
// # Minutes
//
// The state is a row of buckets (state.go), one for each minute of creation (minute.go). A bucket holds the time when the
// minute was last read, and the sums of the operations that were done by then (totals.go: their number and stats, by
// status). So memory depends on the length of the window, not on how many operations there are.
//
// # Operations in flight
//
// SCHEDULED and PROCESSING operations are in flight, or live. Every refresh asks for them by status over the whole window
// (reader.go), so they are exact. What the answers show replaces, for each minute, the sums of its operations in flight and
// a fingerprint of their ids, the sum of their hashes (minute.go). Single operations are not kept, but for the highlights
// that the snapshot names (highlights.go).
//
// A minute whose fingerprint has changed is marked dirty, which makes it due at once: an operation that is gone has moved
// on, and the minute has it under another status by now; one that has appeared may be in the minute's sums already. A mark
// stays until the minute is read, even if refreshes fail.
//
// An operation that the answers show counts as it is there: it is left out of the lists that are read after them. So the
// order in which the questions are answered makes no difference. The next refresh finds gone what was done by then.
//
// If the API does not select by status, or refuses to, it is not asked for an hour: minutes with operations in flight are
// read at every refresh. If so much is in flight that asking for it and reading what has left takes more requests than
// reading all, everything is read.
//
// # What is due
//
// A minute is due when start of this refresh − start of the one that read it ≥ max(interval, max-staleness × its age) −
// interval/2 (minute.go). Due minutes next to each other are read together, gaps are bridged where that costs no further
// page, and what is left of the last page goes to neighbours that are half due (plan.go).
//
// # Pieces
//
// A refresh reads pieces: runs of whole minutes, each by a list of its own, from a second before its first minute to its
// end. That is right for bounds that are inclusive, exclusive, or compared by whole seconds. A worker (reader.go) gathers
// what the list shows in a reading (reading.go), which holds hashes of the ids so that each counts once, and ignores what
// lies outside the piece. When the list has ended, and not before, the minutes of the piece are replaced. Nothing is
// concluded from the order of a list: it may be sorted, shuffled, or several lists one after the other. A request that
// fails loses the pieces that are being read, and no others.
//
// Where it is known how many operations there are, pieces are cut to about equal pages (plan.go). Where it is not, as in
// a first refresh, the first page of the whole window tells how dense they are: rightly if it is one end of a sorted
// list, too low if it is a sample. Pieces are carved by that, about two for each worker, and each that ends sharpens the
// estimate. After a refresh that failed, pieces are smaller, and cut by what the lists that broke off have shown at
// least.
//
// No account has a list that does not end: more than MaxOperations in a refresh, or more ids to hold than there is room
// for (held.go), are a TooManyError.
//
// # Counters
//
// Counters move when a refresh has ended well, and at no other time (state.go): for each minute, by what its sums exceed
// their peak (minute.go). A message that goes back and forth between statuses, a list that is incomplete for a while, an
// operation that the API forgets or that leaves the window take nothing away, and nothing is counted again. What is there
// at the first refresh counts 0. So does what is in a minute that the window held before, or that lies before all it held.
//
// A message that is read has been delivered. Whether delivered falls as read rises is not documented: once an operation
// is seen of which more was read than is delivered, delivered grows by the peak of delivered + read. One of which the
// two come to more than its messages proves the opposite, and ends that for good.
//
// # Clocks
//
// Ages, edges and bounds go by the API's clock. If that turns out to be more than a minute from where it was expected,
// the refresh starts over (reader.go). The time since a minute was read goes by the faster of the local clocks, so that
// nothing is due later because the machine was suspended or its clock set back (clock.go).
//
// # Restarts
//
// Window.Save copies what the window knows at any time, and Restore makes a window that goes on from it, whatever
// settings have changed (window.go). The time between them is treated like one in which the machine was suspended.
// encode.go says how a State is written, and decode.go what is refused when it is read. Of failing operations, it has those
// that a snapshot may come to name.
package window
