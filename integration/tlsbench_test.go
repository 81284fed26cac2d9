package integration

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func plainNode(b *testing.B) *process { return startNode(b, "n1") }

// secureNode is a node whose clients speak TLS.
func secureNode(b *testing.B) *process {
	b.Helper()
	dir := b.TempDir()
	for _, args := range [][]string{{"tls", "ca", "--dir", dir}, {"tls", "cert", "127.0.0.1", "--dir", dir}} {
		if _, errs, code := pushd(b, nil, args...); code != 0 {
			b.Fatalf("pushd %s: %s", args, errs)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		b.Fatal(err)
	}
	p := newNode(b, "n1", "--tls-cert-file", filepath.Join(dir, "127.0.0.1.crt"), "--tls-key-file", filepath.Join(dir, "127.0.0.1.key"))
	p.trust = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	p.trust.RootCAs.AppendCertsFromPEM(text)
	p.serve()
	return p
}

// dial connects a client.
func (p *process) dial() (net.Conn, error) {
	if p.trust != nil {
		return tls.Dial("tcp", p.client, p.trust)
	}
	return net.Dial("tcp", p.client)
}

// BenchmarkIdleTLS is BenchmarkIdle over TLS 1.3: no collection is forced, so the
// handshakes' garbage is counted.
func BenchmarkIdleTLS(b *testing.B) {
	for _, n := range []int{2000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			benchIdle(b, secureNode(b), "websocket", n, func(int) string { return "bench" })
		})
	}
}

// BenchmarkFanOutTLS is BenchmarkFanOut over TLS 1.3; its floor is without.
func BenchmarkFanOutTLS(b *testing.B) {
	for _, burst := range []int{1, 10} {
		b.Run(fmt.Sprintf("1x1000/bursts-of-%d", burst), func(b *testing.B) {
			benchFanOut(b, secureNode, 1000, burst, func(int) string { return "bench" })
		})
	}
}
