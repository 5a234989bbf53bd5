package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, stdout := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--listen-address=127.0.0.1:0", "--rate=30", "--account-sid=SK1", "--auth-token=s", "--order=oldest"}, stdout, &stderr)
		_ = stdout.Close()
	}()

	lines := bufio.NewScanner(out)
	base := ""
	for range 2 {
		if !lines.Scan() {
			t.Fatalf("ended early: %s", &stderr)
		}
		if rest, ok := strings.CutPrefix(lines.Text(), "base URL: "); ok {
			base = rest
		}
	}
	if !strings.HasSuffix(base, "/v1") || lines.Text() != "account SID: SK1, auth token: s" {
		t.Fatalf("base URL %q, then %q", base, lines.Text())
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, target, user string) (code int, body string) {
		r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(`{"kind":"html"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, "s")
		response, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		b, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(b)
	}

	code, body := ask(http.MethodGet, base+"/Messages/Operations?pageSize=1000", "SK1")
	if code != http.StatusOK || strings.Count(body, `"id"`) != 1000 {
		t.Errorf("%d %.100s", code, body)
	}
	if code, _ := ask(http.MethodGet, base+"/Messages/Operations", "AC1"); code != http.StatusUnauthorized {
		t.Errorf("bad credentials: %d", code)
	}
	admin := strings.TrimSuffix(base, "/v1") + "/simulator/"
	if code, body := ask(http.MethodPost, admin+"faults", ""); code != http.StatusNoContent {
		t.Errorf("fault: %d %s", code, body)
	}
	if _, body := ask(http.MethodGet, base+"/Messages/Operations", "SK1"); !strings.HasPrefix(body, "<!DOCTYPE html>") {
		t.Errorf("the fault did not strike: %.100s", body)
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("ended with %d: %s", code, &stderr)
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		say  string
	}{
		{"--help", 0, "--scheduled-share"},
		{"--help", 0, "POST   /simulator/faults"},
		{"--help", 0, "POST   /simulator/trouble"},
		{"--surprise", 1, "unknown long flag '--surprise' (--help lists all flags)"},
		{"--ordr=oldest", 1, "unknown long flag '--ordr': did you mean --order? (--help lists all flags)"},
		{"--share=1", 1, "unknown long flag '--share': did you mean --scheduled-share? (--help lists all flags)"},
		{"-seed=2", 1, "unknown short flag '-s': did you mean --seed? (--help lists all flags)"},
		{"--seed=-1", 1, `--seed: "-1" is not a whole number of 0 or more`},
		{"--rate=-1", 1, "--rate: -1 is not a number of operations a minute from 0 to 1000000"},
		{"--rate=NaN", 1, "--rate: NaN is not a number of operations a minute from 0 to 1000000"},
		{"--rate=x", 1, `--rate: "x" is not a number`},
		{"--window=7", 1, `--window: "7" is not a duration such as 24h`},
		{"--window=1s", 1, "--window: 1s is not a duration of a minute or more"},
		{"--lifetime=x", 1, `--lifetime: "x" is not a duration such as 3m`},
		{"--lifetime=1ms", 1, "--lifetime: 1ms is not a duration of a second or more"},
		{"--scheduled-share=3", 1, "--scheduled-share: 3 is not a number from 0 to 1"},
		{"--scheduled-share=x", 1, `--scheduled-share: "x" is not a number`},
		{"--jitter=-1s", 1, `--jitter: "-1s" is not a duration of 0 or more, such as 5s`},
		{"--jitter=x", 1, `--jitter: "x" is not a duration of 0 or more, such as 5s`},
		{"--order=random", 1, `--order: "random" is not one of newest, oldest, shuffled, updated-first, updated-last, grouped`},
		{"--listen-address=127.0.0.1:none", 1, "--listen-address: listen tcp: "},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var out bytes.Buffer
			code := run(t.Context(), strings.Fields(tt.args), &out, &out)
			if code != tt.code || !strings.Contains(out.String(), tt.say) {
				t.Errorf("%d, want %d and something about %q: %s", code, tt.code, tt.say, &out)
			}
			if code != 0 && strings.Count(out.String(), "\n") != 1 {
				t.Errorf("not one line: %s", &out)
			}
		})
	}
}

// TestHelpWithoutReader checks that help that nobody can read is an error, and no stack trace.
func TestHelpWithoutReader(t *testing.T) {
	reader, writer := io.Pipe()
	_ = reader.Close()
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"--help"}, writer, &stderr)
	want := "twilio_simulator: " + io.ErrClosedPipe.Error() + "\n"
	if code != 1 || stderr.String() != want {
		t.Errorf("status %d, %q, want 1, %q", code, &stderr, want)
	}
}
