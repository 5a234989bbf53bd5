package config

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFlags checks names, variables and defaults of flags, on which units, manifests and scripts rely.
func TestFlags(t *testing.T) {
	want := strings.Fields(`
		help
		version
		twilio.account-sid,TWILIO_ACCOUNT_SID
		twilio.auth-token-file
		twilio.api-key,TWILIO_API_KEY
		twilio.api-secret-file
		twilio.base-url,TWILIO_BASE_URL,https://comms.twilio.com/v1
		twilio.resource,,messages
		twilio.timeout,,30s
		twilio.max-retries,,4
		twilio.rate-limit,,10
		collector.interval,,1m
		collector.window,,24h
		collector.page-size,,1000
		collector.concurrency,,4
		collector.max-staleness,,0.1
		collector.refresh-timeout,,15m
		collector.max-age,,10m
		collector.named-operations,,3
		collector.failure-samples,,5
		collector.operation-tags
		config.file
		config.auto-reload
		config.auto-reload-interval,,30s
		shard.index,TWILIO_SHARD_INDEX,0
		shard.total,TWILIO_SHARD_TOTAL,1
		storage.path
		config.check
		once
		backfill
		demo
		web.systemd-socket
		web.listen-address,,:9861
		web.config.file
		web.telemetry-path,,/metrics
		web.scrape-timeout-offset,,500ms
		web.health-listen-address
		web.enable-lifecycle
		web.enable-pprof
		log.level,,info
		log.format,,logfmt
	`)

	var got []string
	app, _ := newApplication(io.Discard)
	for _, f := range app.Model().Flags {
		if f.Hidden {
			continue
		}
		defaultValue := strings.Join(f.Default, ",")
		if f.IsBoolFlag() && defaultValue == "false" {
			defaultValue = ""
		}
		got = append(got, strings.TrimRight(f.Name+","+f.Envar+","+defaultValue, ","))
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("flags (-want +got):\n%s", d)
	}
}

// TestPlaceholders checks that --help shows what kind of value a flag without a default takes.
func TestPlaceholders(t *testing.T) {
	app, _ := newApplication(io.Discard)
	for _, f := range app.Model().Flags {
		if f.Hidden || f.IsBoolFlag() || len(f.Default) > 0 {
			continue
		}
		if f.PlaceHolder == "" || strings.EqualFold(f.PlaceHolder, f.Name) {
			t.Errorf("--%s: the placeholder is %q", f.Name, f.PlaceHolder)
		}
	}
}
