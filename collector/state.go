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

// StateVersion is the version of the states that a Refresher keeps. Fields that only one side has are ignored, so that a
// field more or less is no new version; one that means something else is.
const StateVersion = 2

// How often a refresh that takes long keeps what it has read by then: a first one more often, so that a program that is
// killed again and again gets through it.
const (
	keepEvery      = 30 * time.Second
	keepFirstEvery = 5 * time.Second
)

// kept is what is kept over restarts: what a scrape shows together with the window, as a line of JSON, and then the window.
type kept struct {
	Created   time.Time // of the counters
	Succeeded time.Time // see Status
	Results   map[string]int
	Errors    map[string]int
	Sampled   Sampled
	Window    []byte `json:"-"` // window.State
}

// maxCount is what a counter of refreshes can have come to, by far.
const maxCount = 1 << 40

// parse reads what encode has made. It returns an error for what no Refresher can have kept.
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

// KeepStates has the refresher pass on its state after each refresh, before a scrape can see what that has changed; and
// every 30 seconds while one is under way, every 5 while that is the first. To be called before Run.
func (r *Refresher) KeepStates(keep func(state []byte)) { r.keep = keep }

// Resume goes on from a state that a process before has kept: counters and numbers stand where they stood, and Scrape
// shows the account as not up until a refresh has ended. On an error, which is window.ErrOld for a state that is of no
// use any more, nothing has changed. To be called before Run.
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

// addKnown takes over the counts of labels that there still are.
func addKnown(counts, earlier map[string]int) {
	for label := range counts {
		counts[label] += earlier[label]
	}
}

// keepState passes on the window as it is, and what a scrape is to show of s.
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
		Created: r.created, Succeeded: s.succeeded, Results: s.results, Errors: s.errors,
		Sampled: s.sampled, Window: saved,
	}
	return k.bytes()
}

// bytes is what parse reads.
func (k *kept) bytes() ([]byte, error) {
	line, err := json.Marshal(k)
	return bytes.Join([][]byte{line, k.Window}, []byte("\n")), err
}

// keepMeanwhile keeps what a refresh has read, every now and then until ctx ends.
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
