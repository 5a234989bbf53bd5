// Package simulator behaves as Twilio's Message Operations API does, in front
// of a world that lives: operations arrive, are scheduled, sent, delivered,
// read, and sometimes go wrong. The exporter's --demo, its tests and its
// benchmarks run against it, and so can anybody's.
//
// # World
//
// A [World] is a pure function of its settings and the time: operation i of
// minute m is derived from a hash of (seed, m, i) whenever somebody asks. So a
// million operations cost no memory, two worlds of one seed are equal, and a
// test can ask [World.Operations] and [World.Sums] for the truth at any time
// without going through the pages. [Static] serves a list that a test writes
// and changes itself. Both are a [Source].
//
// [Trouble] makes operations that begin to send within a span of time go
// wrong: messages fail, are not delivered, have no address, or operations get
// stuck. It can be set ahead, recur, or be switched on and off while the world
// runs; what was seen before never changes.
//
// # API
//
// [Handler] serves a Source over HTTP: both endpoints, Basic authentication,
// the filters, opaque tokens, page sizes, documented error bodies, gzip, and
// throttling. Whatever the reference leaves open is a field of
// [ListSettings]: order, bounds, short and empty pages, the spelling of the
// last page's next, what a token remembers, repeated, late and missing
// operations. [Pager] gives the same pages without HTTP and JSON, for tests
// that simulate weeks.
//
// [Faults] make requests fail: by count, every so many requests, or within a
// span of time, and can be switched while the handler runs. [RequestLog] tells
// what was asked and answered.
//
// [Transport] connects an http.Client to a handler within the process, without
// a socket.
//
// # Standing alone
//
// The command twilio_simulator serves a world on a loopback address, and on
// the same listener the paths of [NewAdmin], which switch faults and trouble:
//
//	go run ./twilio/simulator/cmd/twilio_simulator --rate=60 --lifetime=3m
//	curl -d '{"kind":"status","status":503,"retryAfter":"30s","count":3}' http://127.0.0.1:9862/simulator/faults
//	curl -X POST 'http://127.0.0.1:9862/simulator/trouble?kind=failing&rate=0.2'
//	curl http://127.0.0.1:9862/simulator/requests
//	curl -X DELETE http://127.0.0.1:9862/simulator/faults
package simulator
