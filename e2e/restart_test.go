package e2e

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"twilio_operations_exporter/twilio"
	"twilio_operations_exporter/twilio/simulator"
)

var (
	kills    = flag.Int("kills", 15, "how often TestKills ends the exporter with each signal")
	downtime = flag.Duration("downtime", 5*time.Second, "how long TestRestartsInPrometheus leaves the exporter down, each time")
)

// growing is an account that keeps sending, and whose stats only grow, so that counters must equal exactly what it has
// grown by.
type growing struct {
	mu   sync.Mutex
	rnd  *rand.Rand
	ops  []twilio.Operation
	list *simulator.Static
}

func newGrowing(seed uint64, operations int) *growing {
	g := &growing{rnd: rand.New(rand.NewPCG(seed, 17))}
	for range operations {
		g.add(time.Now().Add(-time.Duration(g.rnd.Int64N(int64(50 * time.Minute)))))
	}
	g.list = simulator.NewStatic(g.ops...)
	return g
}

func (g *growing) add(created time.Time) {
	g.ops = append(g.ops, twilio.Operation{
		ID: fmt.Sprintf("comms_operation_0%025d", len(g.ops)), Status: twilio.StatusProcessing,
		CreatedAt: created, UpdatedAt: created, Stats: twilio.Stats{twilio.Total: 1 + g.rnd.Int64N(50)},
	})
}

// grow lets some time pass.
func (g *growing) grow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rnd.IntN(3) == 0 {
		g.add(time.Now())
	}
	for range 5 {
		op := &g.ops[g.rnd.IntN(len(g.ops))]
		op.Stats[twilio.Total] += g.rnd.Int64N(5)
		op.Stats[twilio.Recipients] += g.rnd.Int64N(5)
		op.Stats[twilio.Delivered] += g.rnd.Int64N(3)
		op.Stats[twilio.Failed] += g.rnd.Int64N(2)
		if g.rnd.IntN(4) == 0 {
			op.Status = twilio.StatusCompleted
		}
		op.UpdatedAt = time.Now()
	}

	g.list = simulator.NewStatic(g.ops...)
}

// sum returns the true numbers by now.
func (g *growing) sum() (sum twilio.Stats) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.ops {
		sum.Add(&g.ops[i].Stats)
	}
	return sum
}

func (g *growing) now() *simulator.Static {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.list
}

// List implements simulator.Source.
func (g *growing) List(now time.Time, f simulator.Filter, newestFirst bool) iter.Seq[twilio.Operation] {
	return g.now().List(now, f, newestFirst)
}

// Operation implements simulator.Source.
func (g *growing) Operation(now time.Time, id string) (twilio.Operation, bool) {
	return g.now().Operation(now, id)
}

// goOn makes the account grow at intervals until stop is called.
func (g *growing) goOn(t *testing.T, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				g.grow()
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// restarting is an exporter that is started again and again, with what its scrapes have shown.
type restarting struct {
	t     *testing.T
	env   []string
	args  []string
	seen  map[string]float64 // counters
	count int                // of scrapes
}

func newRestarting(t *testing.T, account simulator.Source, args ...string) (*restarting, *simulator.Handler) {
	t.Helper()
	const sid = "AC0123456789abcdef0123456789abcdef"
	api := simulator.NewHandler(account, simulator.Settings{AccountSID: sid, AuthToken: fleetToken})
	server := httptest.NewServer(api)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return &restarting{
		t:   t,
		env: []string{"TWILIO_ACCOUNT_SID=" + sid, "TWILIO_AUTH_TOKEN=" + fleetToken, "TWILIO_BASE_URL=" + server.URL + "/v1"},
		args: append([]string{
			"--web.listen-address=127.0.0.1:0", "--collector.window=3h", "--twilio.rate-limit=0", "--twilio.max-retries=0",
		}, args...),
		seen: map[string]float64{},
	}, api
}

func (r *restarting) start() *process {
	r.t.Helper()
	return start(r.t, "exporter", "exporter", r.env, r.args...)
}

// ofThisProcess are counters that a restart resets, as in every Go program.
var ofThisProcess = []string{
	"twilio_exporter_api_", "twilio_exporter_operations_read_total", "twilio_exporter_refresh_duration_seconds",
	"twilio_exporter_storage_", "twilio_exporter_sample_errors_total",
}

// scrape checks the metrics as Prometheus sees them: no counter may be below an earlier value, or gone.
func (r *restarting) scrape(p *process) (samples map[string]float64, err error) {
	r.t.Helper()
	body, err := get(r.t.Context(), p.url("/metrics"))
	if err != nil {
		return nil, err
	}
	r.count++
	samples = map[string]float64{}

	counters := 0
	for line := range strings.Lines(string(body)) {
		i := strings.LastIndex(line, " ")
		name := line[:max(i, 0)]
		if !strings.HasPrefix(name, "twilio_") {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		if err != nil {
			r.t.Fatal(err)
		}
		samples[name] = value
		family, _, _ := strings.Cut(name, "{")
		own := slices.ContainsFunc(ofThisProcess, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if !strings.HasSuffix(family, "_total") || own {
			continue
		}
		counters++
		if value < r.seen[name] {
			r.t.Errorf("%s is %v, was %v", name, value, r.seen[name])
		}
		r.seen[name] = value
	}

	if counters != len(r.seen) {
		r.t.Errorf("%d counters, were %d", counters, len(r.seen))
	}
	return samples, nil
}

// mustScrape scrapes an exporter that must be running.
func (r *restarting) mustScrape(p *process) map[string]float64 {
	r.t.Helper()
	samples, err := r.scrape(p)
	if err != nil {
		r.t.Fatal(err)
	}
	return samples
}

// sumOf sums the samples of a family.
func sumOf(samples map[string]float64, family string) (sum float64) {
	for name, value := range samples {
		if strings.HasPrefix(name, family+"{") {
			sum += value
		}
	}
	return sum
}

// TestKills scrapes every 100 ms an exporter that is killed at random moments, while its account sends and requests
// fail. No counter may ever be below an earlier value, and in the end everything must have been counted once.
func TestKills(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			account := newGrowing(uint64(signal), 300)
			r, api := newRestarting(t, account, "--collector.interval=200ms", "--storage.path="+filepath.Join(t.TempDir(), "states"))
			p := r.start()
			eventually(t, "the first refresh", func() error {
				if up := sumOf(r.mustScrape(p), "twilio_up"); up != 1 {
					return fmt.Errorf("twilio_up is %v", up)
				}
				return nil
			})

			before := account.sum()
			stop := account.goOn(t, 20*time.Millisecond)
			api.Faults().MustAdd(simulator.Fault{
				Kind: simulator.FaultStatus, Status: http.StatusInternalServerError, Every: 5,
			})

			rnd := rand.New(rand.NewPCG(uint64(signal), 3))
			for range *kills {
				timer := time.AfterFunc(time.Duration(rnd.Int64N(int64(900*time.Millisecond))), func() {
					_ = p.cmd.Process.Signal(signal)
				})
				for alive := true; alive; {
					_, err := r.scrape(p)
					select {
					case <-p.ended:
						alive = false
					case <-time.After(100 * time.Millisecond):
						if err != nil && signal == syscall.SIGKILL {
							<-p.ended
						}
					}
				}

				timer.Stop()
				p = r.start()
			}

			stop()
			api.Faults().Clear()
			after := account.sum()
			eventually(t, "all that was sent", func() error {
				samples := r.mustScrape(p)
				for family, stat := range map[string]twilio.Stat{
					"twilio_messages": twilio.Total, "twilio_recipients": twilio.Recipients,
					"twilio_messages_delivered": twilio.Delivered, "twilio_messages_failed": twilio.Failed,
				} {
					got, want := sumOf(samples, family+"_total"), float64(after[stat]-before[stat])
					if got > want {
						t.Fatalf("%s_total counts %v, want %v", family, got, want)
					}
					if got < want {
						return fmt.Errorf("%s_total counts %v, want %v", family, got, want)
					}
					gauge := "twilio_operation" + strings.TrimPrefix(family, "twilio")
					if got, want := sumOf(samples, gauge), float64(after[stat]); got != want {
						return fmt.Errorf("%s is %v, want %v", gauge, got, want)
					}
				}
				return nil
			})

			failed := sumOf(r.seen, "twilio_exporter_refresh_errors_total")
			t.Logf("%d restarts, %d scrapes of %d counters, %.0f messages counted, %.0f refreshes failed",
				*kills, r.count, len(r.seen), sumOf(r.seen, "twilio_messages_total"), failed)
			if failed == 0 || sumOf(r.seen, "twilio_messages_total") == 0 {
				t.Error("nothing has happened")
			}
		})
	}
}

// TestRestartsInPrometheus kills an exporter five times next to a real Prometheus. increase() over all of it, including
// the times in which the exporter was down, must be exactly what was sent. With -downtime=3m, these are as long as when
// a node is replaced.
func TestRestartsInPrometheus(t *testing.T) {
	t.Parallel()
	account := newGrowing(5, 300)
	r, _ := newRestarting(t, account, "--collector.interval=500ms", "--storage.path="+filepath.Join(t.TempDir(), "states"))
	p := r.start()
	r.args[0] = "--web.listen-address=" + p.address // which Prometheus knows, from now on
	s := startStack(t, "Prometheus (restarts)", fast, []string{p.address}, "", "")
	value := func(expr string) (float64, error) {
		found, err := s.query(t.Context(), expr)
		if err != nil || len(found) != 1 {
			return 0, fmt.Errorf("%s has %d values: %w", expr, len(found), err)
		}
		return float64(found[0].value), nil
	}

	eventually(t, "a scrape after the first refresh", func() error {
		up, err := value(`twilio_up`)
		if err == nil && up != 1 {
			err = fmt.Errorf("twilio_up is %v", up)
		}
		return err
	})

	before := account.sum()
	stop := account.goOn(t, *downtime/250)
	for range 5 {
		<-time.After(5 * time.Second)
		p.kill()
		<-time.After(*downtime)
		p = r.start()
	}

	<-time.After(2 * time.Second)
	stop()

	want := float64(account.sum()[twilio.Total] - before[twilio.Total])
	eventually(t, "all that was sent", func() error {
		got, err := value(`twilio_messages_total`)
		if err == nil && got != want {
			err = fmt.Errorf("twilio_messages_total is %v, want %v", got, want)
		}
		return err
	})

	// At the time of a sample, increase extrapolates nothing: the first is 0.
	at, err := value(`timestamp(twilio_messages_total)`)
	if err != nil {
		t.Fatal(err)
	}
	for expr, want := range map[string]float64{"increase(twilio_messages_total[2h] @ %.3f)": want, "resets(twilio_messages_total[2h] @ %.3f)": 0} {
		got, err := value(fmt.Sprintf(expr, at))
		if err != nil || math.Abs(got-want) > 1e-6*want {
			t.Errorf("%s is %v (error %v), want %v", expr, got, err, want)
		}
	}

	t.Logf("5 times %v down, %.0f messages counted", *downtime, want)
}
