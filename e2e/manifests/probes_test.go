package manifests

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/probe"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"

	"twilio_operations_exporter/e2e/manifests/internal/host"
)

func TestMain(m *testing.M) { os.Exit(host.Run(m)) }

const (
	scrapeUser     = "prometheus"
	scrapePassword = "of the test"
	serverName     = "twilio-operations-exporter.twilio.svc"
)

// TestProbes runs the program as the objects say, and asks it as the kubelet does,
// by the kubelet's own code.
func TestProbes(t *testing.T) {
	deploy := host.CopyDeploy(t)
	certificate, key := selfSigned(t)
	hash, err := bcrypt.GenerateFromPassword([]byte(scrapePassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	overlays := filepath.Join(deploy, "k8s", "overlays")
	write(t, filepath.Join(overlays, "example-tls", "secrets", "tls.crt"), string(certificate))
	write(t, filepath.Join(overlays, "example-tls", "secrets", "tls.key"), string(key))
	edit(t, filepath.Join(overlays, "example-tls", "web.yml"), scrapeUser+": HASH", scrapeUser+": "+string(hash))

	for _, tc := range []struct {
		name      string
		overlay   string
		protected bool
	}{
		{"plain", "example", false},
		{"TLS and a password", "example-tls", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := Build(filepath.Join(overlays, tc.overlay))
			if err != nil {
				t.Fatal(err)
			}
			container := runContainer(t, b)
			for _, p := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
				kubelet(t, p, container)
			}
			checkProtection(t, container, certificate, tc.protected)
		})
	}
}

// runContainer runs the only container of a bundle on ports of this machine, which
// the returned container has in place of its own, with an API that nobody serves.
func runContainer(t *testing.T, b *Bundle) *corev1.Container {
	t.Helper()
	program, err := b.Program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for file, content := range program.Files {
		write(t, filepath.Join(dir, file), content)
	}
	container := b.workloads()[0].pod.Spec.Containers[0].DeepCopy()
	args := []string{"--twilio.base-url=http://127.0.0.1:1/v1", "--twilio.max-retries=0"}
	listens := map[string]string{"metrics": "--web.listen-address=", "health": "--web.health-listen-address="}

	for i := range container.Ports {
		port := &container.Ports[i]
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port.ContainerPort = int32(l.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
		args = append(args, listens[port.Name]+l.Addr().String())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}

	for _, arg := range program.Args {
		switch {
		case strings.HasPrefix(arg, "--web.health-listen-address="):
		case strings.HasPrefix(arg, storageFlag):
			args = append(args, storageFlag+t.TempDir())
		default:
			args = append(args, strings.Replace(arg, "=/etc/", "="+dir+"/etc/", 1))
		}
	}

	cmd := exec.CommandContext(t.Context(), host.Exporter(t), args...)
	cmd.Env = program.Env
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%v\n%s", args, &log)
		}
	})
	return container
}

// kubelet asks until a probe succeeds, as often as the kubelet is told to.
func kubelet(t *testing.T, p *corev1.Probe, container *corev1.Container) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	prober := httpprobe.New(false)

	for {
		request, err := httpprobe.NewRequestForHTTPGetAction(p.HTTPGet, container, "127.0.0.1", "probe")
		if err != nil {
			t.Fatal(err)
		}
		result, answer, err := prober.Probe(request, time.Duration(p.TimeoutSeconds)*time.Second)
		if err == nil && result == probe.Success {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s is not answered well in time: %s, %s, %v", p.HTTPGet.Path, result, answer, err)
		case <-tick.C:
		}
	}
}

// checkProtection wants the metrics to be there for who has what is asked for, and
// for nobody else.
func checkProtection(t *testing.T, container *corev1.Container, certificate []byte, protected bool) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool, ServerName: serverName, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}}

	get := func(scheme, port, path, user string) (int, string) {
		t.Helper()
		i := slices.IndexFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == port })
		if i < 0 {
			t.Fatalf("no port %s", port)
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(container.Ports[i].ContainerPort)))
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+"://"+address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			request.SetBasicAuth(user, scrapePassword)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}

	if !protected {
		if status, body := get("http", "metrics", metricsPath, ""); status != http.StatusOK || !strings.Contains(body, "twilio_up{") {
			t.Errorf("metrics: status %d\n%s", status, body)
		}
		return
	}

	if status, body := get("https", "metrics", metricsPath, scrapeUser); status != http.StatusOK ||
		!strings.Contains(body, "twilio_up{") {
		t.Errorf("metrics by TLS and with the password: status %d\n%s", status, body)
	}

	if status, _ := get("https", "metrics", metricsPath, ""); status != http.StatusUnauthorized {
		t.Errorf("metrics without the password: status %d", status)
	}
	for _, path := range []string{metricsPath, "/", probePath} {
		if status, _ := get("http", "health", path, ""); status != http.StatusNotFound {
			t.Errorf("%s of the listener for probes: status %d, want 404", path, status)
		}
	}
}

func selfSigned(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serverName}, DNSNames: []string{serverName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	private8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private8})
}
