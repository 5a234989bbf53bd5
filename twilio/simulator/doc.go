// Package simulator behaves as Twilio's Operations API does, for messages and e-mails. Its operations arrive, are
// scheduled, sent, delivered and read, and sometimes fail. The exporter's --demo, its tests and its benchmarks run
// against it.
//
// A [World] is a pure function of its settings and the time: operation i of minute m is derived from a hash of (seed,
// m, i) when it is needed. So a million operations cost no memory, two worlds with the same seed are equal, and a test
// can get the true numbers of any time from [World.Operations] and [World.Sums], without reading pages. [Static] serves
// a list that a test writes and changes itself. Both implement [Source].
//
// [Trouble] makes operations go wrong that start to send within a span of time: messages fail, are not delivered, have
// no address, or operations get stuck. It can be planned ahead, recur, or be added and ended while the world runs. It
// never changes what was seen before.
//
// The messages of an operation are not stored either. How many of them are lost follows from its stats; who the
// recipients are and why messages are lost follows from its id. Addresses and contents contain [Personal], which tests
// can search for.
//
// [Handler] serves a Source over HTTP, and a second one as the operations of e-mails. It lists and fetches operations
// and messages, with basic authentication, filters, page tokens, page sizes, documented error bodies, and gzip. What
// the reference leaves open is a field of [ListSettings] (order, bounds, short and empty pages, repeated operations,
// and how the last page says that there is no next one) or of [MessageSettings] (whether lists of messages filter, and
// how far they lag behind).
//
// [Faults] make requests fail or slow, or the Date header wrong: for all requests, for a number of them, or for every
// n-th. They can be added and removed while the handler runs.
//
// The command twilio_simulator serves a world on a loopback address. The handler of [NewAdmin] is on the same listener
// and adds and removes faults and trouble.
package simulator
