package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// writePair makes a certificate for 127.0.0.1 that is its own authority.
func writePair(t testing.TB, dir, name string) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, text := range map[string][]byte{certFile: certPEM, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pool
}

// house is a site with a second listener, behind a door.
type house struct {
	*site
	addr string
	pool *x509.CertPool
}

func newHouse(t *testing.T, secure, proxy bool, change ...func(*Options)) *house {
	t.Helper()
	h := &house{site: newSite(t, append([]func(*Options){believing("127.0.0.0/8", 0)}, change...)...)}
	d := Door{ProxyProtocol: proxy}
	if secure {
		certFile, keyFile, pool := writePair(t, t.TempDir(), "first")
		c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		h.pool, d.TLS = pool, c.TLS()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- h.ServeDoor(l, d) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = h.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("ServeDoor: got %v, want nil", err)
		}
	})
	return h
}

// knock opens a connection to the door, and says hello.
func (h *house) knock(hello string) *raw {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(deadline))
	r := &raw{h.t, conn, bufio.NewReader(conn)}
	r.write(hello)
	return r
}

// secure goes on with TLS.
func (h *house) secure(r *raw, c *tls.Config) *raw {
	h.t.Helper()
	c.RootCAs, c.ServerName = h.pool, "127.0.0.1"
	conn := tls.Client(r.conn, c)
	if err := conn.Handshake(); err != nil {
		h.t.Fatal(err)
	}
	return &raw{h.t, conn, bufio.NewReader(conn)}
}

// wantEvent follows a topic by WebSocket, and publishes to it.
func (h *house) wantEvent(r *raw) {
	h.t.Helper()
	r.write(upgradeTo("/v1/topics/door/events"))
	r.answer().want(101)
	c := r.socket()
	c.push() // subscribed
	h.publishText("door", "come in")
	wantTexts(h.t, []protocol.Envelope{c.event()}, "come in")
	c.frame(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))
	c.wantClose(1000)
	c.wantEOF()
}

func TestAWebSocketOverEachVersionOfTLSIsServedByALoop(t *testing.T) {
	h := newHouse(t, true, false)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, protocols := range [][]string{nil, {"http/1.1"}} {
			h.wantEvent(h.secure(h.knock(""), &tls.Config{MaxVersion: version, NextProtos: protocols}))
		}
	}
	if _, err := tls.Dial("tcp", h.addr, &tls.Config{RootCAs: h.pool, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1: got a connection, want a refusal")
	}
}

func TestHTTP2OverTLSServesTheAPIAndStreamsOnOneConnection(t *testing.T) {
	h := newHouse(t, true, false)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.pool}, ForceAttemptHTTP2: true, MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	url := "https://" + h.addr + "/v1/topics/two/events"
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	ask := func(method, body, accept string) *http.Response {
		r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "text/plain")
		r.Header.Set("Accept", accept)
		resp, err := transport.RoundTrip(r)
		if err != nil || resp.ProtoMajor != 2 {
			t.Fatalf("%s: got %+v and %v, want an answer over HTTP/2", method, resp, err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	resp := ask(http.MethodGet, "", "text/event-stream")
	s := &stream{t, resp, bufio.NewReader(resp.Body), cancel}
	s.first()
	if resp := ask(http.MethodPost, "over h2", "*/*"); resp.StatusCode != http.StatusCreated {
		t.Fatalf("publish: got %d, want 201", resp.StatusCode)
	}
	if got := s.block(); !strings.Contains(got, "data: over h2\n") {
		t.Errorf("stream: got %q, want the event", got)
	}
}

func TestOneTLSConnectionGoesBetweenNetHTTPAndALoop(t *testing.T) {
	h := newHouse(t, true, false)
	r := h.secure(h.knock(""), &tls.Config{})
	for range 3 {
		r.write("POST /v1/topics/door/events HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
		r.answer().want(201)
		r.write("GET /v1/topics/door/events?after=-1&wait=1s HTTP/1.1\r\nHost: x\r\n\r\n")
		wantTexts(t, r.answer().page().Events, "hello")
	}
	h.wantEvent(r)
}

func TestMuchGoesOutOverTLSWhole(t *testing.T) {
	h := newHouse(t, true, false)
	big := strings.Repeat("0123456789abcdef", 2<<10)
	var list []string
	for range 40 {
		list = append(list, big)
	}
	h.publishText("big", list...)
	r := h.secure(h.knock(""), &tls.Config{})
	r.write(upgradeTo("/v1/topics/big/events?after=earliest"))
	r.answer().want(101)
	c := r.socket()
	c.push() // subscribed
	for i := range list {
		if e, err := c.push().Event.Event(); err != nil || string(e.Data) != big {
			t.Fatalf("event %d: got %d bytes and %v, want %d", i, len(e.Data), err, len(big))
		}
	}
}

func TestPlainHTTPAtATLSPortIsToldSo(t *testing.T) {
	h := newHouse(t, true, false)
	r := h.knock("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
	a := r.answer()
	a.wantProblem(protocol.BadRequest)
	if !strings.Contains(a.Body, "https://") {
		t.Errorf("got %s, want a word of https", a.Body)
	}
	h.knock("\x00\x01nonsense").wantEnd()
	h.wantTurnedAway(2)
}

func (h *house) wantTurnedAway(n uint64) {
	h.t.Helper()
	if got := h.metrics.turnedAway.Load(); got != n {
		h.t.Errorf("got %d refused connections, want %d", got, n)
	}
}

func (r *raw) wantEnd() {
	r.t.Helper()
	if rest, err := io.ReadAll(r.in); len(rest) > 0 && !bytes.HasPrefix(rest, []byte{21}) { // an alert
		r.t.Errorf("got %q and %v, want the connection's end", rest, err)
	}
}

func TestAProxysClientsAreServed(t *testing.T) {
	for _, secure := range []bool{false, true} {
		h := newHouse(t, secure, true)
		for _, c := range proxyHeaders {
			r := h.knock(c.header)
			if secure {
				r = h.secure(r, &tls.Config{})
			}
			h.wantEvent(r)
		}
		for _, header := range badProxyHeaders[3:] {
			r := h.knock(header)
			closeWrite(r.conn)
			r.wantEnd()
		}
	}
}

func TestAProxiedConnectionHasItsClientsAddress(t *testing.T) {
	certFile, keyFile, pool := writePair(t, t.TempDir(), "proxied")
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Door{{ProxyProtocol: true}, {ProxyProtocol: true, TLS: c.TLS()}} {
		here, there := net.Pipe()
		go func() {
			_, _ = io.WriteString(there, proxyHeaders[0].header)
			if d.TLS != nil {
				_ = tls.Client(there, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}).Handshake()
			}
		}()
		s := newServer(Options{}, nil)
		from, err := s.findOrigin(t.Context(), here, d)
		if err != nil || from.of(here).String() != proxyHeaders[0].want {
			t.Errorf("got %v and %v, want a connection from %s", from, err, proxyHeaders[0].want)
		}
		if d.TLS != nil {
			conn, err := shakeHands(t.Context(), here, from, d)
			if err != nil || conn.RemoteAddr().String() != proxyHeaders[0].want {
				t.Errorf("got %v and %v, want a connection from %s", conn, err, proxyHeaders[0].want)
			}
		}
		_, _ = here.Close(), there.Close()
	}
}

func TestWhoIsSilentAtTheDoorIsSentAway(t *testing.T) {
	certFile, keyFile, _ := writePair(t, t.TempDir(), "silent")
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Door{{ProxyProtocol: true}, {TLS: c.TLS()}, {ProxyProtocol: true, TLS: c.TLS()}} {
		synctest.Test(t, func(t *testing.T) {
			s := New(Options{Broker: noBroker{}})
			here, there := net.Pipe()
			began := time.Now()
			go s.arrive(here, d)
			if d.ProxyProtocol {
				_, _ = io.WriteString(there, "PROXY TCP4 192.0.2.1 ")
			}
			if _, err := io.ReadAll(there); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if n := s.reached[boundHandshake].Load(); n != 1 {
				t.Errorf("%+v: got %d counted at the limit, want 1", d, n)
			}
			if took := time.Since(began); took != headerTimeout {
				t.Errorf("%+v: got the end after %v, want %v", d, took, headerTimeout)
			}
			s.stop()
			s.startDrain()
		})
	}
}

// noBroker is the broker of a server that serves nobody.
type noBroker struct{ Broker }

func TestAChangedCertificateIsUsedAndABrokenOneIsNot(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, _ := writePair(t, dir, "first")
	var log bytes.Buffer
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	want := func(name string, words int) {
		t.Helper()
		now = now.Add(certificateEvery + time.Millisecond)
		c.look(now)
		if got := c.current.Load().Leaf.Subject.CommonName; got != name {
			t.Errorf("got the certificate %s, want %s", got, name)
		}
		if got := strings.Count(log.String(), "msg="); got != words {
			t.Errorf("got %d words in the log, want %d: %s", got, words, &log)
		}
	}
	want("first", 0)
	writePair(t, dir, "second")
	c.look(now) // too soon
	if got := c.current.Load().Leaf.Subject.CommonName; got != "first" {
		t.Errorf("within %v: got %s, want first", certificateEvery, got)
	}
	want("second", 1)
	if err := os.WriteFile(certFile, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("second", 2)
	want("second", 2) // said once
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	want("second", 3)
	writePair(t, dir, "third")
	want("third", 4)
}

func TestACertificateThatCannotBeLoadedIsAnErrorWithItsName(t *testing.T) {
	certFile, _, _ := writePair(t, t.TempDir(), "x")
	if _, err := LoadCertificate(certFile, certFile+".none", nil); err == nil || !strings.Contains(fmt.Sprint(err), "none") {
		t.Errorf("got %v, want an error that names the file", err)
	}
	if _, err := LoadCertificate(certFile, certFile, nil); err == nil {
		t.Error("a certificate in place of a key: got no error")
	}
}

func TestAUnixSocketIsServedByTheLoops(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	h := &house{site: s}
	r := &raw{t, conn, bufio.NewReader(conn)}
	r.write("GET /v1/topics HTTP/1.1\r\nHost: x\r\n\r\n") // by net/http, which gives it back
	r.answer().want(200)
	h.wantEvent(r)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = s.Shutdown(ctx)
	if err := <-done; err != nil {
		t.Errorf("Serve: got %v, want nil", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket's file after Shutdown: got %v, want none", err)
	}
}

func TestACertificateOfTheSameTimeAndSizeIsSeenInAnotherFile(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	certFile, keyFile, _ := writePair(t, dir, "first")
	otherCert, otherKey, _ := writePair(t, other, "other")
	then := time.Now().Add(-time.Hour)
	for _, file := range []string{certFile, keyFile, otherCert, otherKey} {
		if err := os.Truncate(file, 4<<10); err != nil { // zeros behind a PEM block are nothing
			t.Fatal(err)
		}
		if err := os.Chtimes(file, then, then); err != nil {
			t.Fatal(err)
		}
	}
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{otherCert: certFile, otherKey: keyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	c.look(time.Now().Add(2 * certificateEvery))
	if got := c.current.Load().Leaf.Subject.CommonName; got != "other" {
		t.Errorf("got the certificate %s, want other", got)
	}
}
