package simulator

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"twilio_operations_exporter/twilio"
)

// TestDemoIsLively checks that there is something to see in a demo.
func TestDemoIsLively(t *testing.T) {
	clock := time.Date(2026, 11, 23, 9, 41, 0, 0, time.UTC)
	world := MustWorld(DemoWorld(clock))
	sums := func(window time.Duration) (Sums, twilio.Stats) {
		s := world.Sums(clock, clock.Add(-window), clock.Add(time.Second))
		var all twilio.Stats
		for _, sum := range s {
			all.Add(&sum.Stats)
		}
		return s, all
	}

	was, day := sums(24 * time.Hour)
	operations := int64(0)
	for _, status := range []twilio.Status{
		twilio.StatusScheduled, twilio.StatusProcessing, twilio.StatusCompleted, twilio.StatusCanceled,
	} {
		if was[status].Operations < 10 {
			t.Errorf("%d operations are %s", was[status].Operations, status)
		}
		operations += was[status].Operations
	}

	if operations < 20*24*60 || operations > 60*24*60 {
		t.Errorf("%d operations in a day", operations)
	}
	was, before := sums(time.Hour)
	for range 30 {
		clock = clock.Add(5 * time.Second)
		now, after := sums(time.Hour)
		if after == before || now[twilio.StatusProcessing] == was[twilio.StatusProcessing] ||
			now[twilio.StatusCompleted] == was[twilio.StatusCompleted] {
			t.Fatalf("nothing moved in the 5 s to %v", clock)
		}
		was, before = now, after
	}

	failing := 0
	for op := range world.Operations(clock, clock.Add(-24*time.Hour), clock) {
		if op.Stats[twilio.Total] >= 100 && (op.Stats[twilio.Failed]+op.Stats[twilio.Undelivered])*10 >= op.Stats[twilio.Total] {
			failing++
		}
	}

	share := float64(day[twilio.Failed]+day[twilio.Undelivered]) / float64(day[twilio.Total])
	if failing < 20 || share < 0.02 || share > 0.1 || day[twilio.Unaddressable] == 0 {
		t.Errorf("%d campaigns failing, a share of %.3f failed or undelivered", failing, share)
	}
}

// troubleAt returns what the exporter would show of a demo at a time: the operations that are failing and in flight or
// created in the last hour, and those that are stuck.
func troubleAt(d *Demo, clock time.Time) (failing, stuck map[string]twilio.Operation) {
	failing, stuck = map[string]twilio.Operation{}, map[string]twilio.Operation{}
	for op := range d.world.Operations(clock, clock.Add(-2*time.Hour), clock) {
		lost := op.Stats[twilio.Failed] + op.Stats[twilio.Undelivered]
		now := op.Status.Live() || clock.Sub(op.CreatedAt) <= time.Hour
		if now && op.Stats[twilio.Total] >= 100 && lost*10 >= op.Stats[twilio.Total] {
			failing[op.ID] = op
		}
		if op.Status == twilio.StatusProcessing && clock.Sub(op.UpdatedAt) >= stuckAfter {
			stuck[op.ID] = op
		}
	}
	return failing, stuck
}

// TestDemoTakesTurns checks the course of a demo, whenever it starts: nothing is wrong at first, a campaign fails
// within two minutes and ends, then another one is stuck and continues.
func TestDemoTakesTurns(t *testing.T) {
	for _, second := range []time.Duration{0, 17 * time.Second, 59 * time.Second} {
		start := time.Date(2026, 11, 23, 9, 41, 0, 0, time.UTC).Add(second)
		d := newDemo(start)
		if failing, stuck := troubleAt(d, start); len(failing)+len(stuck) > 0 {
			t.Errorf("%v: at the start, %d are failing and %d stuck", second, len(failing), len(stuck))
		}
		failing, stuck := troubleAt(d, start.Add(2*time.Minute-5*time.Second))
		if len(failing) != 1 || len(stuck) > 0 {
			t.Errorf("%v: after two minutes, less a refresh, %d are failing and %d stuck", second, len(failing), len(stuck))
		}

		ended := 0
		for turn := range 3 {
			begins := firstTurn(start).Add(time.Duration(turn) * demoTurn)
			events := d.turn(begins)
			fails, ends, hangs, goesOn := events[0], events[1], events[2], events[3]
			if fails.At.Before(begins) || ends.At.Before(fails.At) || hangs.At.Before(ends.At) || goesOn.At.Sub(hangs.At) < 3*time.Minute ||
				goesOn.At.After(begins.Add(demoTurn)) {
				t.Errorf("%v, turn %d: events out of order: %v", second, turn, events)
			}

			failing, stuck := troubleAt(d, ends.At.Add(-time.Second))
			if op := failing[fails.Operation]; op.Status != twilio.StatusProcessing || len(failing) != ended+1 || len(stuck) > 0 {
				t.Errorf("%v, turn %d: before its end, %s is %q, %d are failing and %d stuck",
					second, turn, fails.Operation, op.Status, len(failing), len(stuck))
			}

			ended++
			failing, stuck = troubleAt(d, hangs.At.Add(-time.Second))
			if op := failing[fails.Operation]; op.Status != twilio.StatusCompleted || len(stuck) > 0 {
				t.Errorf("%v, turn %d: after its end, %s is %q, and %d are stuck", second, turn, fails.Operation, op.Status, len(stuck))
			}
			for _, at := range []time.Time{hangs.At, goesOn.At.Add(-time.Second)} {
				if _, stuck := troubleAt(d, at); len(stuck) != 1 || stuck[hangs.Operation].ID == "" {
					t.Errorf("%v, turn %d: %v are stuck at %v, want %s", second, turn, stuck, at, hangs.Operation)
				}
			}

			if _, stuck := troubleAt(d, goesOn.At); len(stuck) > 0 {
				t.Errorf("%v, turn %d: %v are stuck when it has gone on", second, turn, stuck)
			}
		}
	}
}

func TestDemoTellsWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := NewDemo()
		var told []DemoEvent
		d.Tell(ctx, func(e DemoEvent) {
			if late := time.Since(e.At); late < 0 || late > time.Second {
				t.Errorf("told of %q %v late", e.Text, late)
			}
			if told = append(told, e); len(told) == 6 {
				cancel()
			}
		})

		want := slices.Concat(d.turn(firstTurn(d.start)), d.turn(firstTurn(d.start).Add(demoTurn))[:2])
		if !slices.Equal(told, want) {
			t.Errorf("told of %v, want %v", told, want)
		}
	})
}
