package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// TestScrapeByTLSAndPassword has a real Prometheus scrape the exporter with the two
// files that docs/configuration.md shows, and fail without the password.
func TestScrapeByTLSAndPassword(t *testing.T) {
	const password = "of the test"
	doc := readFile(t, filepath.Join(project, "docs", "configuration.md"))
	_, section, found := bytes.Cut(doc, []byte("\n## TLS and authentication\n"))
	files := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(section, -1)
	if !found || len(files) != 2 {
		t.Fatalf("docs/configuration.md shows %d files, want the exporter's and Prometheus'", len(files))
	}
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key := selfSigned(t, "exporter.example")
	writeFile(t, filepath.Join(dir, "web.yml"), bytes.Replace(files[0][1], []byte("HASH"), hash, 1))
	writeFile(t, filepath.Join(dir, "tls.crt"), certificate)
	writeFile(t, filepath.Join(dir, "tls.key"), key)
	writeFile(t, filepath.Join(dir, "ca.crt"), certificate)
	writeFile(t, filepath.Join(dir, "password"), []byte(password))
	writeFile(t, filepath.Join(dir, "wrong"), []byte("another"))

	exporter := start(t, "exporter", "exporter", nil,
		"--demo", "--web.listen-address=127.0.0.1:0", "--web.config.file="+filepath.Join(dir, "web.yml"))
	config := bytes.Replace(files[1][1], []byte("exporter.example:9861"), []byte(exporter.address), 1)
	config = append([]byte("global: {scrape_interval: 1s, scrape_timeout: 1s}\n"), config...)
	for _, tc := range []struct {
		passwordFile string
		up           float64
	}{{"password", 1}, {"wrong", 0}} {
		file := filepath.Join(dir, tc.passwordFile+".yml")
		writeFile(t, file, bytes.Replace(config, []byte("password_file: password"), []byte("password_file: "+tc.passwordFile), 1))
		s := &stack{dir: dir}
		s.prometheus = start(t, "Prometheus with "+tc.passwordFile, "prometheus", nil, "--config.file="+file,
			"--storage.tsdb.path="+filepath.Join(dir, tc.passwordFile+".data"), "--web.listen-address=127.0.0.1:0")
		eventually(t, "a scrape with "+tc.passwordFile, func() error {
			up, err := s.query(t.Context(), "up")
			if err != nil {
				return err
			}
			if len(up) != 1 || float64(up[0].value) != tc.up {
				return errors.New("no target, or of another state")
			}
			return nil
		})

		if seen, err := s.query(t.Context(), `twilio_up{account="demo"}`); err != nil || len(seen) != int(tc.up) {
			t.Errorf("with %s: twilio_up is %v, %v", tc.passwordFile, seen, err)
		}
	}
}

func selfSigned(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
