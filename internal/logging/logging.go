// Package logging sets up the program's logs.
package logging

import (
	"io"
	"log/slog"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	sloggokit "github.com/tjhop/slog-gokit"
)

// New returns the program's logger, and one with the same output for libraries that need log/slog. minLevel is debug,
// info, warn or error; format is logfmt or json.
func New(w io.Writer, minLevel, format string) (logger log.Logger, libraries *slog.Logger) {
	newLogger := log.NewLogfmtLogger
	if format == "json" {
		newLogger = log.NewJSONLogger
	}
	filtered := func(w io.Writer) log.Logger {
		allowed := level.Allow(level.ParseDefault(minLevel, level.InfoValue()))
		return level.NewFilter(newLogger(log.NewSyncWriter(w)), allowed)
	}

	base := filtered(w)
	if queue, ok := w.(*Writer); ok {
		queue.ReportDropped(func(w io.Writer, lines int64) {
			logger := log.With(filtered(w), "time", log.DefaultTimestampUTC)
			_ = level.Warn(logger).Log("msg", "log lines dropped as they could not be written in time", "lines", lines)
		})
	}

	// The filter of base decides which levels are logged. The handler itself adds time and caller.
	libraries = slog.New(sloggokit.NewGoKitHandler(base, slog.LevelDebug))
	return log.With(base, "time", log.DefaultTimestampUTC, "caller", log.DefaultCaller), libraries
}

// Standard returns an output for package log of the standard library. Its messages may hold secrets: net/http logs
// unsolicited answers, and a server may send back the credentials that it received. So only the fact that there was a
// message is logged, at debug.
func Standard(logger log.Logger) io.Writer { return standard{logger} }

type standard struct{ log.Logger }

// Write implements io.Writer.
func (s standard) Write(message []byte) (int, error) {
	_ = level.Debug(s.Logger).Log("msg", "message of a library, text omitted", "bytes", len(message))
	return len(message), nil
}
