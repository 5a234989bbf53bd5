package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

const evil = `<script>document.title="owned"</script>`

// browse starts a browser without a window.
func browse(ctx context.Context, t *testing.T) context.Context {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: sudo apt-get install chromium")
	}
	profile := filepath.Join(t.TempDir(), "profile")
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(profile),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.WSURLReadTimeout(2*time.Minute),
	)

	allocator, cancelAllocator := chromedp.NewExecAllocator(ctx, options...)
	tab, cancelTab := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		cancelTab()
		cancelAllocator()
		chromedp.FromContext(tab).Allocator.Wait()
		removeAll(t, profile)
	})
	return tab
}

// removeAll removes a browser's files, which its last processes may still add to.
func removeAll(t *testing.T, dir string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		err := os.RemoveAll(dir)
		if err == nil {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			t.Error(err)
			return
		}
	}
}

// page is what a browser shows.
type page struct {
	title, first, text string // its title, its first line, all of it
}

// load loads a page again and again until it says what it must; it is of one moment.
func load(t *testing.T, tab context.Context, url string, until *regexp.Regexp) (p page) {
	t.Helper()
	for {
		err := chromedp.Run(tab, chromedp.Navigate(url), chromedp.WaitVisible("#state", chromedp.ByQuery),
			chromedp.Title(&p.title), chromedp.Text("#state", &p.first, chromedp.ByQuery), chromedp.Text("body", &p.text, chromedp.ByQuery))
		if err != nil {
			t.Fatalf("waiting for %q: %v, last seen:\n%s", until, err, p.text)
		}
		p.first = strings.Join(strings.Fields(p.first), " ")
		if until.MatchString(p.first) {
			return p
		}
	}
}

// look looks at a page as it is shown on a device, and keeps the picture in the
// artifacts directory of the repository. It returns the color behind the text.
func look(t *testing.T, tab context.Context, name string, width int64, scheme string) (background string) {
	t.Helper()
	var overflow int
	var broken []string
	var picture []byte
	err := chromedp.Run(tab,
		chromedp.EmulateViewport(width, 900),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &background),
		chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &overflow),
		// A name that is broken takes two lines.
		chromedp.Evaluate(`[...document.querySelectorAll('.name, .rows th a')].
			filter(e => e.getClientRects().length > 1).map(e => e.textContent)`, &broken),
		chromedp.FullScreenshot(&picture, 100),
	)
	if err != nil {
		t.Fatal(err)
	}
	if overflow > 0 {
		t.Errorf("%s: the page is %d pixels too wide", name, overflow)
	}
	if len(broken) > 0 {
		t.Errorf("%s: names are broken: %q", name, broken)
	}

	pictures := filepath.Join("..", "..", "artifacts")
	if err := os.MkdirAll(pictures, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pictures, "landing-"+name+".png"), picture, 0o600); err != nil {
		t.Fatal(err)
	}
	return background
}

// many are forty accounts: three in trouble, one whose first read is not yet
// done, and the quiet ones.
func many(t *testing.T) []account {
	calm := newAPI(t, quietWorld(7, 2))
	failing := newAPI(t, failingWorld(8, 12))
	stuck := newAPI(t, stuckWorld(9, 2))
	refused := newAPI(t, quietWorld(10, 2))
	refused.misbehave(0, refuses)

	accounts := make([]account, 0, 40)
	for _, brand := range []string{"aurora", "borealis", "cassiopeia", "deneb"} {
		for _, country := range []string{"at", "be", "ch", "de", "dk", "es", "fr", "it", "nl", "pl"} {
			accounts = append(accounts, account{brand + "-" + country, calm})
		}
	}

	accounts[12].api = failing
	accounts[25].api = stuck
	accounts[31].api = refused
	accounts[38].name = "deneb-loyalty-programme-reminders-of-northern-italy-and-the-alps"
	return accounts
}

// TestLandingPage looks at the page of accounts in every state.
func TestLandingPage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	// Chromium leaves an empty directory there.
	t.Setenv("TMPDIR", t.TempDir())
	tab := browse(ctx, t)

	often := []string{"--collector.interval=1s", "--collector.max-age=2s"}
	for _, tt := range []struct {
		name     string
		accounts func(t *testing.T) []account
		args     []string
		then     func(accounts []account) // what happens after the first refresh
		first    string                   // matches the first line
		words    []string                 // are on the page
		not      []string                 // are not
	}{
		{
			name: "quiet",
			accounts: func(t *testing.T) []account {
				return []account{{"marketing", newAPI(t, quietWorld(1, 35))}}
			},
			first: `^✓ 1 account\. Nothing is wrong\.$`,
			words: []string{"last hour", "last 24 h", "Delivered", "On their way", "Oldest of", "scheduled", "comms_operation_"},
			not:   []string{"Failing now", "Stuck:", "Warning demo", " old"},
		},
		{
			name: "failing",
			accounts: func(t *testing.T) []account {
				return []account{{"marketing", newAPI(t, failingWorld(1, 35))}}
			},
			first: `^✕ 1 account\. marketing: \d+ campaigns failing now, [\d.]+% of messages failed in the last (15 min|hour)\.$`,
			words: []string{"most messages lost first", "Failing now: 5 of"},
		},
		{
			name: "stuck",
			accounts: func(t *testing.T) []account {
				return []account{{"marketing", newAPI(t, stuckWorld(1, 35))}}
			},
			first: `^▲ 1 account\. marketing: 1 campaign stuck for 2 h\.$`,
			words: []string{"Stuck: 1", "2 h", "8,000"},
		},
		{
			name: "refused",
			accounts: func(t *testing.T) []account {
				refused := newAPI(t, quietWorld(2, 35))
				refused.misbehave(0, refuses)
				return []account{{"marketing", newAPI(t, quietWorld(1, 35))}, {"bookings", refused}}
			},
			first: `^✕ 2 accounts\. bookings: no numbers yet \(credentials refused\)\.$`,
			words: []string{"401 Unauthorized", "Check that the account SID is right"},
		},
		{
			name: "throttled",
			accounts: func(t *testing.T) []account {
				return []account{{"marketing", newAPI(t, quietWorld(1, 35))}}
			},
			args:  []string{"--collector.interval=1s"},
			then:  func(accounts []account) { accounts[0].api.misbehave(0, throttles) },
			first: `^▲ 1 account\. marketing: numbers are \d+ s old \(throttled by Twilio for another [34] min\)\.$`,
			words: []string{"s old", "until"},
		},
		{
			name: "first-read",
			accounts: func(t *testing.T) []account {
				a := newAPI(t, quietWorld(1, 35))
				a.misbehave(25, hangs)
				return []account{{"marketing", a}}
			},
			first: `^… 1 account\. marketing: first read under way \([1-9]\d%\)\.$`,
			words: []string{"Not ready: waiting for the first refresh of \"marketing\"."},
			not:   []string{"by creation"},
		},
		{
			name: "stale",
			accounts: func(t *testing.T) []account {
				return []account{{"marketing", newAPI(t, quietWorld(1, 35))}}
			},
			args:  often,
			then:  func(accounts []account) { accounts[0].api.misbehave(0, fails) },
			first: `^✕ 1 account\. marketing: no current numbers for \d+ s \(Twilio's API is failing\)\.$`,
			words: []string{"s old", "500 Internal Server Error", "status.twilio.com"},
		},
		{
			name: "three",
			accounts: func(t *testing.T) []account {
				hostile := newAPI(t, quietWorld(3, 35))
				return []account{
					{evil, hostile},
					{"marketing", newAPI(t, failingWorld(1, 35))},
					{"bookings", newAPI(t, stuckWorld(2, 8))},
				}
			},
			first: `^✕ 3 accounts, 2 in trouble: ✕ Critical marketing: \d+ campaigns failing now, .* ▲ Warning bookings: 1 campaign stuck for 2 h\.$`,
			words: []string{evil},
		},
		{
			name: "forty", accounts: many,
			first: `^✕ 40 accounts, 3 in trouble: ✕ Critical .*borealis-ch: .*deneb-be: no numbers yet \(credentials refused\)\. ` +
				`▲ Warning cassiopeia-es: 1 campaign stuck for 2 h\.$`,
			words: []string{"Quiet: 37 accounts"},
			not:   []string{"aurora-at"},
		},
		{
			name: "forty-quiet",
			accounts: func(t *testing.T) []account {
				accounts := many(t)
				for i := range accounts {
					accounts[i].api = accounts[0].api
				}
				return accounts
			},
			first: `^✓ 40 accounts\. Nothing is wrong\.$`,
			words: []string{"Quiet: 40 accounts", "aurora-at", "deneb-pl"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			accounts := tt.accounts(t)
			url := start(ctx, t, accounts, tt.args...)
			if tt.then != nil {
				load(t, tab, url, regexp.MustCompile(`Nothing is wrong`))
				tt.then(accounts)
			}

			p := load(t, tab, url, regexp.MustCompile(tt.first))
			for _, want := range tt.words {
				if !strings.Contains(p.text, want) {
					t.Errorf("%q is not on the page:\n%s", want, p.text)
				}
			}

			for _, not := range tt.not {
				if strings.Contains(p.text, not) {
					t.Errorf("%q is on the page:\n%s", not, p.text)
				}
			}

			if sign := p.first[:len("✓")]; !strings.HasPrefix(p.title, sign) && !strings.HasPrefix(sign, "…"[:1]) {
				t.Errorf("the title is %q where the page says %q", p.title, p.first)
			}
			if p.title == "owned" {
				t.Error("an account's name ran as a script")
			}
			if strings.Contains(p.text, secret) {
				t.Error("a secret is on the page")
			}

			light := look(t, tab, tt.name, 1280, "light")
			dark := look(t, tab, tt.name+"-dark", 1280, "dark")
			if light == dark {
				t.Errorf("the page is %s in light and in dark", light)
			}
			look(t, tab, tt.name+"-phone", 390, "light")
		})
	}
}

// TestOneAccount looks at the page of one account of forty.
func TestOneAccount(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	t.Setenv("TMPDIR", t.TempDir())
	tab := browse(ctx, t)
	url := start(ctx, t, many(t))

	p := load(t, tab, url+"?account=aurora-at", regexp.MustCompile(`^✓ 1 account\. Nothing is wrong\.$`))
	if !strings.Contains(p.text, "All 40 accounts") || strings.Contains(p.text, "borealis") {
		t.Errorf("want aurora-at alone:\n%s", p.text)
	}
	// The fragment of an alert's link finds an account that is folded.
	var visible bool
	load(t, tab, url, regexp.MustCompile(`^✕ 40 accounts`))
	err := chromedp.Run(tab, chromedp.Navigate(url+"#account-aurora-at"),
		chromedp.Evaluate(`document.getElementById('account-aurora-at').checkVisibility()`, &visible))
	if err != nil || !visible {
		t.Errorf("%saccount-aurora-at is not shown: %v", fmt.Sprint(url, "#"), err)
	}
}
