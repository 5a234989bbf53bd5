package simulator

import (
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
)

// TestDemoIsLively holds the demo to what its watchers are to see.
func TestDemoIsLively(t *testing.T) {
	clock := time.Date(2026, 11, 23, 9, 41, 0, 0, time.UTC)
	world := MustWorld(DemoWorld())
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

// TestDemoAlwaysShowsTrouble holds the demo to one failing and one stuck
// campaign at any time of a day, and so in the first second of a run.
func TestDemoAlwaysShowsTrouble(t *testing.T) {
	world := MustWorld(DemoWorld())
	failing, stuck := map[string]bool{}, map[string]bool{}
	start := time.Date(2026, 11, 23, 9, 41, 17, 0, time.UTC)
	for clock := start; clock.Before(start.Add(25 * time.Hour)); clock = clock.Add(19*time.Minute + 13*time.Second) {
		failingNow, stuckNow := "", ""
		for op := range world.Operations(clock, clock.Add(-time.Hour), clock) {
			if op.Stats[twilio.Total] >= 1000 && op.Stats[twilio.Failed]*10 >= op.Stats[twilio.Total]*3 {
				failingNow = op.ID
			}
		}
		for op := range world.List(clock, Filter{From: clock.Add(-4 * time.Hour), Status: twilio.StatusProcessing}, false) {
			if op.Stats[twilio.Total] > 100 && clock.Sub(op.UpdatedAt) > 30*time.Minute {
				stuckNow = op.ID
			}
		}
		if failingNow == "" || stuckNow == "" {
			t.Fatalf("%v: failing %q, stuck %q", clock, failingNow, stuckNow)
		}
		failing[failingNow], stuck[stuckNow] = true, true
	}
	if len(failing) < 30 || len(stuck) < 10 || len(stuck) > 15 {
		t.Errorf("%d campaigns failing and %d stuck, by turns", len(failing), len(stuck))
	}
}
