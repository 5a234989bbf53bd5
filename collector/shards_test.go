package collector

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"twilio_operations_exporter/twilio"
)

// TestListsOneAfterTheOther reads a list that is two lists, each the newest
// first, of which the second holds the latest operations alone: all but the
// newest part of the window look perfectly ordered.
func TestListsOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, workers := range []int{1, 2, 4, 8} {
			api := &fakeAPI{order: fakeShards}
			now := time.Now()
			const all = 2000
			for i := range all {
				op := &fakeOperation{}
				op.ID, op.Status = string(rune('a'+i%26))+time.Duration(i).String(), twilio.StatusCompleted
				op.CreatedAt = now.Add(-time.Duration(i) * 4 * time.Hour / all)
				op.UpdatedAt = op.CreatedAt
				op.Stats.Total = 1
				api.add(op)
			}
			s := settings()
			s.Concurrency = workers
			r := NewRefresher(s, api, NewMetrics(prometheus.NewRegistry()).Account(s.Account), log.NewNopLogger())
			r.refresh(t.Context())
			status := r.Status()
			if status.Err != nil || status.Snapshot.operations() != all {
				t.Errorf("%d workers: %d operations, want %d; %v", workers, status.Snapshot.operations(), all, status.Err)
			}
		}
	})
}
