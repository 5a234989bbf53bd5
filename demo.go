package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"twilio_operations_exporter/twilio/simulator"
)

// startDemo serves the simulator to this program alone and points the demo's
// account at it, over the same HTTP as the API's.
func startDemo(ctx context.Context, c *ValidatedConfig) (stop func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("--demo: %w", err)
	}
	api := simulator.Demo(nil)
	server := &http.Server{Handler: api, ReadHeaderTimeout: readTimeout}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // until it is closed
	}()
	c.Accounts[0].BaseURL = &url.URL{Scheme: "http", Host: l.Addr().String(), Path: "/v1"}
	return func() {
		api.Close()
		_ = server.Close()
		<-ended
	}, nil
}
