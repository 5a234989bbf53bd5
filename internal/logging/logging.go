// Package logging makes the program's logger.
package logging

import (
	"io"
	"log/slog"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	sloggokit "github.com/tjhop/slog-gokit"
)

// New returns the program's logger, and the same one for libraries that want log/slog. Level is debug, info, warn or
// error; format is json, or else logfmt.
func New(w io.Writer, minLevel, format string) (logger log.Logger, libraries *slog.Logger) {
	newLogger := log.NewLogfmtLogger
	if format == "json" {
		newLogger = log.NewJSONLogger
	}
	complete := func(w io.Writer) log.Logger {
		allowed := level.Allow(level.ParseDefault(minLevel, level.InfoValue()))
		return level.NewFilter(newLogger(log.NewSyncWriter(w)), allowed)
	}

	base := complete(w)
	if queue, ok := w.(*Writer); ok {
		queue.ReportDropped(func(w io.Writer, lines int64) {
			logger := log.With(complete(w), "time", log.DefaultTimestampUTC)
			_ = level.Warn(logger).Log("msg", "log lines dropped as they could not be written in time", "lines", lines)
		})
	}
	// go-kit's level decides; the bridge adds time and caller itself.
	libraries = slog.New(sloggokit.NewGoKitHandler(base, slog.LevelDebug))
	return log.With(base, "time", log.DefaultTimestampUTC, "caller", log.DefaultCaller), libraries
}

// Standard returns a writer for Go's own logger, which libraries write to behind the program's back: net/http logs what
// a server says when nobody asked it, which may be the credentials that it was sent. Only that there was a message is
// logged, at debug.
func Standard(logger log.Logger) io.Writer { return standard{logger} }

type standard struct{ log.Logger }

// Write implements io.Writer.
func (s standard) Write(message []byte) (int, error) {
	_ = level.Debug(s.Logger).Log("msg", "message of a library, text omitted", "bytes", len(message))
	return len(message), nil
}
