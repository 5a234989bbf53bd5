package collector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-kit/log/level"

	"twilio_operations_exporter/collector/window"
)

// StateVersion is the version of the states that a Refresher keeps. Adding or removing a field needs no new version, as
// unknown and missing fields are ignored; changing the meaning of one does.
const StateVersion = 2

// How often a long refresh keeps what it has read so far. A first refresh does so more often, so that even a program
// that is killed again and again gets through it.
const (
	keepEvery      = 30 * time.Second
	keepFirstEvery = 5 * time.Second
)

// kept is what is kept across restarts. It is encoded as a line of JSON, followed by the window.
type kept struct {
	Created   time.Time // when the counters began
	Succeeded time.Time // see Status
	Results   map[string]int
	Errors    map[string]int
	Sampled   Sampled
	Window    []byte `json:"-"` // window.State
}

// maxCount is more refreshes than there can have been.
const maxCount = 1 << 40

// parse decodes what bytes has encoded. It refuses what no Refresher can have kept.
func (k *kept) parse(content []byte) error {
	line, saved, ok := bytes.Cut(content, []byte("\n"))
	if !ok {
		return errors.New("the state breaks off")
	}
	if err := json.Unmarshal(line, k); err != nil {
		return fmt.Errorf("the state cannot be read: %w", err)
	}
	k.Window = saved

	for _, counts := range []map[string]int{k.Results, k.Errors} {
		for label, n := range counts {
			if n < 0 || n > maxCount {
				return fmt.Errorf("the state has a count of %d for %.100q", n, label)
			}
		}
	}
	if year := k.Created.Year(); year < 2000 || year >= 2200 {
		return fmt.Errorf("the state has counters of the year %d", year)
	}
	return k.Sampled.check()
}

// KeepStates makes the refresher pass its state to keep after each refresh, before scrapes show what the refresh
// changed, and every 30 seconds during a refresh, or every 5 during the first. It must be called before Run.
func (r *Refresher) KeepStates(keep func(state []byte)) { r.keep = keep }

// Resume continues from a state that an earlier process has kept, with the same counters and numbers. The account is
// not up before a refresh has ended. On an error nothing has changed; it wraps window.ErrOld if the state is too old to
// be of use. Resume must be called before Run.
func (r *Refresher) Resume(content []byte) error {
	var k kept
	if err := k.parse(content); err != nil {
		return err
	}
	var saved window.State
	if err := saved.UnmarshalBinary(k.Window); err != nil {
		return err
	}

	restored, err := window.Restore(r.settings.windowOptions(), saved)
	if err != nil {
		return err
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.window = restored
	r.created = k.Created
	r.state.snapshot = restored.Snapshot()
	r.state.succeeded = k.Succeeded
	addKnown(r.state.results, k.Results)
	addKnown(r.state.errors, k.Errors)
	r.state.sampled = k.Sampled
	r.state.collected = collectAll(r.viewOf(&r.state))
	return nil
}

// addKnown adds earlier counts, except those of labels that no longer exist.
func addKnown(counts, earlier map[string]int) {
	for label := range counts {
		counts[label] += earlier[label]
	}
}

// keepState keeps the window as it is now, together with s.
func (r *Refresher) keepState(s *state) {
	if r.keep == nil {
		return
	}
	content, err := r.encode(s)
	if err != nil {
		level.Error(r.logger).Log("msg", "failed to encode state", "err", err)
		return
	}
	r.keep(content)
}

func (r *Refresher) encode(s *state) ([]byte, error) {
	saved, err := r.window.Save().MarshalBinary()
	if err != nil {
		return nil, err
	}
	k := kept{
		Created:   r.created,
		Succeeded: s.succeeded,
		Results:   s.results,
		Errors:    s.errors,
		Sampled:   s.sampled,
		Window:    saved,
	}
	return k.bytes()
}

// bytes encodes k for parse.
func (k *kept) bytes() ([]byte, error) {
	line, err := json.Marshal(k)
	return bytes.Join([][]byte{line, k.Window}, []byte("\n")), err
}

// keepMeanwhile keeps what a refresh has read so far, every now and then, until ctx ends.
func (r *Refresher) keepMeanwhile(ctx context.Context, first bool) {
	if r.keep == nil {
		return
	}
	every := keepEvery
	if first {
		every = keepFirstEvery
	}
	tick := time.Tick(every)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			r.keepState(&r.state)
		}
	}
}
