package e2e

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

// TestShards divides the accounts of one file among three processes. A real Prometheus must see each account once, the
// right totals, and which accounts are lost with one of the processes.
func TestShards(t *testing.T) {
	t.Parallel()
	const count = 12
	api := &fleet{handlers: map[string]*simulator.Handler{}}
	var names []string
	total := 0
	for i := range count {
		var ops []twilio.Operation
		for range i + 1 {
			ops = append(ops, twilio.Operation{
				ID: fmt.Sprintf("comms_operation_0%025d", total), Status: twilio.StatusCompleted,
				CreatedAt: time.Now().Add(-time.Hour), UpdatedAt: time.Now(),
			})
			total++
		}
		name := fmt.Sprintf("account-%02d", i)
		names = append(names, name)
		api.handlers[fleetSID(name)] = simulator.NewHandler(simulator.NewStatic(ops...),
			simulator.Settings{AccountSID: fleetSID(name), AuthToken: fleetToken})
	}

	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	var shards []*process
	var addresses []string
	for i := range 3 {
		p := startFleet(t, "exporter", server, names,
			"--shard.total=3", "--shard.index="+strconv.Itoa(i), "--collector.interval=1s")
		shards, addresses = append(shards, p), append(addresses, p.address)
	}

	s := startStack(t, "Prometheus (shards)", fast, addresses, "", "")
	// of returns the accounts of the series that a query finds, each as often as it is there.
	of := func(query string) []string {
		found, err := s.query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		var accounts []string
		for _, series := range found {
			accounts = append(accounts, series.labels["account"])
		}
		slices.Sort(accounts)
		return accounts
	}

	eventually(t, "each account, once", func() error {
		if up := of(`twilio_up == 1`); !slices.Equal(up, names) {
			return fmt.Errorf("accounts that are up: %q", up)
		}
		return nil
	})

	sum, err := s.query(t.Context(), `sum(twilio_operations)`)
	if err != nil || len(sum) != 1 || int(sum[0].value) != total {
		t.Errorf("%v operations (error %v), want %d", sum, err, total)
	}

	lost := of(fmt.Sprintf(`twilio_up{instance=%q}`, addresses[1]))
	if n := len(lost); n == 0 || n == count {
		t.Fatalf("one of three processes reads %d accounts of %d", n, count)
	}
	shards[1].kill()
	eventually(t, "the alert", func() error {
		down := of(`ALERTS{alertname="TwilioExporterDown",alertstate="firing",severity="critical"}`)
		if !slices.Equal(down, lost) {
			return fmt.Errorf("it fires for %q, want %q", down, lost)
		}
		return nil
	})

	if seen := of(`twilio_up == 1`); len(seen) != count-len(lost) {
		t.Errorf("the other processes read %q", seen)
	}
}
