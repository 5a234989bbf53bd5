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
	base := level.NewFilter(newLogger(log.NewSyncWriter(w)), level.Allow(level.ParseDefault(minLevel, level.InfoValue())))
	// go-kit's level decides; the bridge adds time and caller itself.
	libraries = slog.New(sloggokit.NewGoKitHandler(base, slog.LevelDebug))
	return log.With(base, "time", log.DefaultTimestampUTC, "caller", log.DefaultCaller), libraries
}
