// Package simulator behaves as Twilio's Message Operations API does. Its operations arrive, are scheduled, sent,
// delivered and read, and sometimes fail. The exporter's --demo, its tests and its benchmarks run against it.
//
// # World
//
// A [World] is a pure function of its settings and the time: operation i of minute m is derived from a hash of (seed,
// m, i) when it is needed. So a million operations cost no memory, two worlds of one seed are equal, and a test can get
// the true numbers at any time from [World.Operations] and [World.Sums], without reading pages. [Static] serves a list
// that a test writes and changes itself. Both are a [Source].
//
// [Trouble] makes operations that start to send within a span of time go wrong: messages fail, are not delivered, have
// no address, or operations get stuck. It can be planned ahead, recur, or be added and ended while the world runs; what
// was seen before never changes.
//
// # API
//
// [Handler] serves a Source over HTTP: both endpoints, Basic authentication, filters, page tokens, page sizes,
// documented error bodies, and gzip. Whatever the reference leaves open is a field of [ListSettings]: order, bounds,
// short and empty pages, repeated operations, and the spelling of the last page's next.
//
// [Faults] make requests fail or be slow, and the Date header wrong: all of them, a number of them, or every n-th. They
// can be switched while the handler runs.
//
// # Command
//
// The command twilio_simulator serves a world on a loopback address, and the paths of [NewAdmin], which switch faults
// and trouble, on the same listener:
//
//	go run ./twilio/simulator/cmd/twilio_simulator --rate=60 --lifetime=3m
//	curl -d '{"kind":"status","status":503,"retryAfter":"30s","count":3}' http://127.0.0.1:9862/simulator/faults
//	curl -d '{"kind":"failing","rate":0.2}' http://127.0.0.1:9862/simulator/trouble
package simulator
