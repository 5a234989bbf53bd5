// Command twilio_operations_exporter reads Twilio's message operations and
// exports their sums by status to Prometheus.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/go-kit/log/level"
	"github.com/prometheus/exporter-toolkit/web"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program; it returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	saveMemory()
	// Without a receiver, a hangup would end the program.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	c, err := configure(args, stdout)
	if err == nil {
		err = start(ctx, c, hangup, stdout, stderr)
	}
	if err != nil && !errors.Is(err, errAnswered) {
		_, _ = fmt.Fprintf(stderr, "%s: error: %s\n", programName, oneLine(err.Error()))
		return 1
	}
	return 0
}

// start does what the configuration asks for, until that is done or ctx ends.
func start(ctx context.Context, c *ValidatedConfig, hangup <-chan os.Signal, stdout, stderr io.Writer) error {
	if c.Check {
		return report(c, stdout)
	}
	if c.Demo {
		stopDemo, err := startDemo(ctx, c)
		if err != nil {
			return err
		}
		defer stopDemo()
	}
	s, libraries, err := newSite(c, stderr)
	if err != nil {
		return err
	}
	if c.Once {
		return s.once(ctx, stdout)
	}

	server := newServer(s.handler(), libraries)
	// Called once the address is ours: no request goes to the API from a
	// program that cannot serve. The end of ctx ends what waits in a request.
	begun := make(chan struct{})
	begin := sync.OnceFunc(func() { s.accounts.start(ctx, 0); close(begun) })
	server.BaseContext = func(net.Listener) context.Context { begin(); return ctx }
	served := make(chan error, 1)
	go func() { served <- web.ListenAndServe(server, c.Web, libraries) }()
	defer s.accounts.stop()
	var reload <-chan os.Signal // nil, hence silent, until there is something to reload
	for {
		select {
		case <-begun:
			reload, begun = hangup, nil
		case err := <-served:
			return err
		case <-reload:
			_ = s.reload() // it has logged the reason
		case <-ctx.Done():
			level.Info(s.logger).Log("msg", "stopping", "cause", context.Cause(ctx))
			stopServer(ctx, server)
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		}
	}
}
