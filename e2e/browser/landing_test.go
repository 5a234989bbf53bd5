package browser

import (
	"bufio"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"twilio_operations_exporter/twilio/simulator"
)

const (
	evil   = `<script>document.title="owned"</script>`
	secret = "s3cret-of-the-test"
)

// startExporter builds and runs the exporter with three accounts, of which one
// has a name that is HTML and one is refused, and returns its address.
func startExporter(ctx context.Context, t *testing.T) string {
	t.Helper()
	world := simulator.MustWorld(simulator.DemoWorld(time.Now()))
	api := httptest.NewServer(simulator.NewHandler(world, simulator.Settings{AccountSID: "AC1", AuthToken: secret}))
	t.Cleanup(api.Close)

	dir := t.TempDir()
	config := fmt.Sprintf(`accounts:
- {name: marketing, account_sid: AC1, auth_token_file: token, base_url: %[1]s/v1}
- {name: '%[2]s', account_sid: AC1, auth_token_file: token, base_url: %[1]s/v1}
- {name: refused, account_sid: AC2, auth_token_file: token, base_url: %[1]s/v1}
`, api.URL, evil)
	for name, content := range map[string]string{"token": secret, "accounts.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "exporter")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	running, stop := context.WithCancel(ctx)
	cmd := exec.CommandContext(running, program, "--config.file="+filepath.Join(dir, "accounts.yml"),
		"--twilio.rate-limit=0", "--web.listen-address=127.0.0.1:0")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		listening := regexp.MustCompile(`Listening on.*?(127\.0\.0\.1:\d+)`)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		_ = cmd.Wait() // killed
	})
	select {
	case a := <-address:
		return "http://" + a
	case <-ended:
		t.Fatal("the exporter has ended")
	case <-ctx.Done():
		t.Fatal("the exporter does not listen")
	}
	return ""
}

// browse starts a browser without a window.
func browse(ctx context.Context, t *testing.T) context.Context {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: sudo apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.WSURLReadTimeout(2*time.Minute),
	)
	allocator, cancelAllocator := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancelAllocator)
	tab, cancelTab := chromedp.NewContext(allocator)
	t.Cleanup(cancelTab)
	return tab
}

// TestLandingPage looks at the page in light and dark, wide and narrow. The
// pictures stay in the artifacts directory of the repository.
func TestLandingPage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Chromium leaves an empty directory there.
	t.Setenv("TMPDIR", t.TempDir())
	url := startExporter(ctx, t)
	tab := browse(ctx, t)

	var text, title string
	if err := chromedp.Run(tab, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	// The page is of one moment: it is loaded again until all have been read.
	for {
		err := chromedp.Run(tab, chromedp.Reload(), chromedp.WaitVisible("#accounts", chromedp.ByQuery),
			chromedp.Title(&title), chromedp.Text("body", &text, chromedp.ByQuery))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(text, "COMPLETED") >= 2 && strings.Contains(text, "20003") {
			break
		}
	}
	if title == "owned" {
		t.Error("an account's name ran as a script")
	}
	for _, want := range []string{
		"marketing", evil, "refused", "fresh", "failing", "COMPLETED", "SCHEDULED", "comms_operation_", "401 Unauthorized",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page:\n%s", want, text)
		}
	}
	if strings.Contains(text, secret) {
		t.Error("a secret is on the page")
	}

	pictures := filepath.Join("..", "..", "artifacts")
	if err := os.MkdirAll(pictures, 0o750); err != nil {
		t.Fatal(err)
	}
	background := make(map[string]string)
	for _, scheme := range []string{"light", "dark"} {
		for device, width := range map[string]int64{"wide": 1200, "narrow": 390} {
			name := scheme + "-" + device
			var color string
			var overflow int
			var picture []byte
			err := chromedp.Run(tab,
				chromedp.EmulateViewport(width, 900),
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &color),
				chromedp.Evaluate(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &overflow),
				chromedp.FullScreenshot(&picture, 90),
			)
			if err != nil {
				t.Fatal(err)
			}
			background[scheme] = color
			if overflow > 0 {
				t.Errorf("%s: the page is %d pixels too wide", name, overflow)
			}
			if err := os.WriteFile(filepath.Join(pictures, "landing-"+name+".jpg"), picture, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if background["light"] == background["dark"] {
		t.Errorf("the page is %s in light and in dark", background["light"])
	}
}
