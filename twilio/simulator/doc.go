// Package simulator behaves as Twilio's Operations API does, for messages and e-mails. Its operations arrive, are
// scheduled, sent, delivered and read, and sometimes fail. The exporter's --demo, its tests and its benchmarks run
// against it.
//
// A [World] is a pure function of its settings and the time: operation i of minute m is derived from a hash of (seed,
// m, i) when it is needed. So a million operations cost no memory, two worlds of one seed are equal, and a test can
// get the true numbers at any time from [World.Operations] and [World.Sums], without reading pages. [Static] serves a
// list that a test writes and changes itself. Both are a [Source].
//
// [Trouble] makes operations that start to send within a span of time go wrong: messages fail, are not delivered, have
// no address, or operations get stuck. It can be planned ahead, recur, or be added and ended while the world runs;
// what was seen before never changes.
//
// The messages of an operation are not stored either: how many of them are lost follows from its stats, why, and whose
// they are, from its id. Addresses and contents bear the mark [Personal], for tests that hunt for them.
//
// [Handler] serves a Source over HTTP, and a second one as the operations of e-mails: lists and fetches of operations
// and of messages, Basic authentication, filters, page tokens, page sizes, documented error bodies, and gzip. Whatever
// the reference leaves open is a field of [ListSettings]: order, bounds, short and empty pages, repeated operations,
// and the spelling of the last page's next; or of [MessageSettings]: whether lists of messages filter, and how far
// they lag behind.
//
// [Faults] make requests fail or be slow, and the Date header wrong: all of them, a number of them, or every n-th.
// They can be switched while the handler runs.
//
// The command twilio_simulator serves a world on a loopback address, and the paths of [NewAdmin], which switch faults
// and trouble, on the same listener.
package simulator
