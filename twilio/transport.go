package twilio

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	maxHeader = 64 << 10 // bytes of the header of an answer

	dialTimeout = 10 * time.Second // of a connection, and of its TLS handshake
	idleTimeout = 5 * time.Minute

	// A ping finds out whether a silent HTTP/2 connection is dead. Otherwise, each request on it would wait until its own
	// timeout.
	pingAfter   = 5 * time.Second
	pingTimeout = 5 * time.Second

	// maxStreamBuffer is how many unread bytes of an answer over HTTP/2 the transport buffers.
	maxStreamBuffer = 256 << 10
)

// NewTransport returns a transport for a Client. It bounds the memory that an answer takes before it is read, and
// leaves compression and credentials to the client.
func NewTransport(tlsConfig *tls.Config, proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	dialer := net.Dialer{Timeout: dialTimeout}

	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxIdleConns:           20_000,
		MaxIdleConnsPerHost:    1000,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              protocols,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:           pingAfter,
			PingTimeout:               pingTimeout,
			MaxReceiveBufferPerStream: maxStreamBuffer,
		},
	}
}
