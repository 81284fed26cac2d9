package peers

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificate is one of this machine, for whoever serves TLS.
type certificate struct{ cert, key string } // files

func newCertificate(b *testing.B) certificate {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	c := certificate{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	for name, block := range map[string]*pem.Block{c.cert: {Type: "CERTIFICATE", Bytes: der}, c.key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return c
}

// sealedCrowd is idle WebSockets over TLS, which the crowd of plain sockets does
// not speak.
type sealedCrowd struct {
	b      *testing.B
	server *server
	conns  []*tls.Conn
}

// gather connects n more, one after the other.
func (c *sealedCrowd) gather(n int) {
	c.b.Helper()
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	for range n {
		conn, err := tls.Dial("tcp", c.server.addr, config)
		if err != nil {
			c.b.Fatal(err)
		}
		c.conns = append(c.conns, conn)
		_ = conn.SetDeadline(time.Now().Add(patience))
		c.enter(conn)
	}
}

// enter opens the WebSocket, and subscribes.
func (c *sealedCrowd) enter(conn *tls.Conn) {
	c.b.Helper()
	if _, err := conn.Write(c.server.open(webSocket, 0, "")); err != nil {
		c.b.Fatal(err)
	}
	in := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		c.b.Fatalf("%s over TLS: %v, %v", c.server.name, resp, err)
	}
	if c.server.hello == nil {
		return
	}
	if _, err := conn.Write(c.server.hello(0, "")); err != nil {
		c.b.Fatal(err)
	}
	if _, err := in.ReadByte(); err != nil {
		c.b.Fatal(err)
	}
}

func (c *sealedCrowd) leave() {
	for _, conn := range c.conns {
		_ = conn.NetConn().Close()
	}
}

// measureSealed connects n readers over TLS 1.3 to a new process of a peer.
func measureSealed(b *testing.B, p peer, n int) idleCost {
	b.Helper()
	s := p.start(b)
	defer s.end()
	c := &sealedCrowd{b: b, server: s}
	defer c.leave()
	c.gather(100)
	bytes, cpu := s.proportionalBytes(b), s.clock(b)
	c.gather(n)
	cpu = s.clock(b) - cpu
	return idleCost{bytes: float64(s.proportionalBytes(b)-bytes) / float64(n), connect: cpu.Seconds() * 1e6 / float64(n)}
}
