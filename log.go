package main

import (
	"io"
	stdlog "log"
	"log/slog"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	sloggokit "github.com/tjhop/slog-gokit"
)

// newLogger returns the program's logger, and the same one for libraries that
// want log/slog.
func newLogger(w io.Writer, c *ValidatedConfig) (logger log.Logger, libraries *slog.Logger) {
	var base log.Logger
	if c.LogFormat == "json" {
		base = log.NewJSONLogger(log.NewSyncWriter(w))
	} else {
		base = log.NewLogfmtLogger(log.NewSyncWriter(w))
	}
	base = level.NewFilter(base, level.Allow(level.ParseDefault(c.LogLevel, level.InfoValue())))
	// go-kit's level decides; the bridge adds time and caller itself.
	libraries = slog.New(sloggokit.NewGoKitHandler(base, slog.LevelDebug))
	return log.With(base, "time", log.DefaultTimestampUTC, "caller", log.DefaultCaller), libraries
}

// serverLog is for what net/http says of single connections, such as a failed
// TLS handshake: news of the client's, not of this program.
func serverLog(logger *slog.Logger) *stdlog.Logger {
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}
