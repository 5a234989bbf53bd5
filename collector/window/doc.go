// Package window keeps the sums of the operations that an account created within a time, as cheaply as the list of the
// API allows. It knows nothing of metrics, files or HTTP.
//
// The API lists operations a page at a time and tells no one what has changed. Reading a day of 864,000 operations
// takes 865 requests. A [Window] reads what may have changed instead: often where operations are young, seldom where
// they are old, and at every refresh those in flight. That takes 45 requests.
//
// A window is plain data, its state, and for the length of a refresh it has a reader that fills it: the reader plans
// what to read, has workers read it, and hands each list that was read to its end to the state. What comes out is a
// [Snapshot].
//
// # Minutes
//
// The state is a row of buckets (state.go), one for each minute of creation (minute.go). A bucket holds the sums of the
// operations that were done when the minute was read (totals.go: their number and stats, by status), and when that was.
// So memory depends on the length of the window, not on how many operations there are.
//
// # Operations in flight
//
// SCHEDULED and PROCESSING operations are kept by id beside the sums of their minute (minute.go). Every refresh asks for
// them by status over the whole window (reader.go), so they are exact. One that the answers do not show has moved on: its
// minute holds it as something else by now, so the minute is marked dirty, which makes it due at once. Two others are
// marked as well: the minute of an operation that turns up without having been known, whose sums may hold it already, and
// that of one that both questions show. A mark stays until the minute is read, also if refreshes fail. Nothing depends on
// which question is answered first.
//
// If the API does not select by status, or refuses to, the window goes without the questions for an hour: minutes with
// operations in flight are read at every refresh. If so much is in flight that asking for it and reading what has left
// takes more requests than reading all, everything is read.
//
// # What is due
//
// A minute is due when start of this refresh − start of the one that read it ≥ max(interval, max-staleness × its age) −
// interval/2 (minute.go). Due minutes next to each other are read together, gaps are bridged where that costs no further
// page, and the room on the last page goes to neighbours that are half due (plan.go).
//
// # Pieces
//
// A refresh reads pieces: runs of whole minutes, each by a list of its own, from a second before its first minute to its
// end. That is right for bounds that are inclusive, exclusive, or compared by whole seconds. A worker (reader.go) gathers
// what the list shows in a reading (reading.go), which keeps hashes of the ids so that each counts once, and leaves what
// lies outside the piece to others. When the list has ended, the minutes of the piece are replaced, and not before. Nothing
// is concluded from the order of a list: it may be sorted, shuffled, or several lists one after the other. A request that
// fails loses the pieces in flight, and no others.
//
// Where it is known how many operations there are, pieces are cut to about equal pages (plan.go). Where it is not, as in a
// first refresh, the first page of the whole window tells how dense they are: rightly if it is one end of a sorted list,
// too low if it is a sample. Pieces are carved by that, about two for each worker, and each that ends sharpens the
// estimate. After a refresh that failed, pieces are smaller, and cut by what the lists that broke off have shown at least.
//
// A list that does not end is no account's: more than [MaxOperations] in a refresh, or more than [MaxInFlight] operations
// in flight, are a [TooManyError].
//
// # Counters
//
// Counters move when a refresh has ended well, and at no other time (state.go): for each minute, by what its sums exceed
// their peak (minute.go). A message that wanders between statuses, a list that is incomplete for a while, an operation
// that the API forgets or that leaves the window take nothing away and are not counted again. What is there at the first
// refresh counts 0, and so does what is in a minute that the window held before, or that lies before all it held.
//
// A message that is read has been delivered. Whether delivered falls as read rises is not documented: once an operation
// is seen of which more was read than is delivered, delivered grows by the peak of delivered + read. One of which the
// two come to more than its messages proves the opposite, and ends that for good.
//
// # Clocks
//
// Ages, edges and bounds go by the API's clock. If that turns out to be more than a minute from where it was expected,
// the refresh starts over (reader.go). Readings are aged by the faster of the local clocks, so that a suspended machine
// or a clock set back makes nothing due later (clock.go).
//
// # Restarts
//
// [Window.Save] copies what the window knows at any time, and [Restore] makes a window that goes on from it, whatever
// settings have changed (window.go). To that one, the time in between is as if the machine had been suspended. What a
// [State] is written as, and what is refused when it is read, is in encode.go: of operations in flight id and status
// suffice, as the questions bring the rest; of those failing, the ones that a snapshot may come to name.
package window
