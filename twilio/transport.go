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

	dialTimeout = 10 * time.Second // for a connection, and for TLS on it
	idleTimeout = 5 * time.Minute

	// An HTTP/2 connection that has gone silent is asked whether it is still there, or each of its requests would wait
	// until its own timeout.
	pingAfter   = 5 * time.Second
	pingTimeout = 5 * time.Second

	// maxStreamBuffer is what the transport keeps of an answer over HTTP/2 that is not read yet.
	maxStreamBuffer = 256 << 10
)

// NewTransport returns a transport that bounds what an answer can take before it is read: its header, and what is
// buffered of its body. It compresses nothing and adds no credentials, as both are the client's.
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
