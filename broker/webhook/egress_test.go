package webhook

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestOnlyTheOpenInternetIsDialled(t *testing.T) {
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "2606:4700::1111": true, "2a00:1450::1": true,
		"0.0.0.0": false, "10.1.2.3": false, "100.64.0.1": false, "127.0.0.1": false, "127.9.9.9": false, "169.254.169.254": false,
		"172.16.0.1": false, "172.31.255.255": false, "192.0.0.1": false, "192.0.2.1": false, "192.88.99.1": false, "192.168.1.1": false,
		"198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:8.8.8.8": true, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "2001::1": false, "2001:db8::1": false, "2002:7f00:1::": false, "3fff::1": false,
		"fc00::1": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "ff02::1": false, "5f00::1": false, "100::1": false,
	} {
		if got := openInternet(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

func TestANodesOwnAddressIsNeverDialled(t *testing.T) {
	own := netip.MustParseAddrPort("127.0.0.1:7340")
	g := guard{private: true, own: func(at netip.AddrPort) bool { return at == own }}
	if err := g.check(netip.MustParseAddrPort("[::ffff:127.0.0.1]:7340")); !errors.Is(err, errBlocked) {
		t.Errorf("got %v, want %v", err, errBlocked)
	}
	if err := g.check(netip.MustParseAddrPort("127.0.0.1:7341")); err != nil {
		t.Errorf("another port: got %v", err)
	}
}

// inner is a service on this machine that must not be reached.
func inner(t *testing.T) (server *httptest.Server, reached *atomic.Int32) {
	reached = new(atomic.Int32)
	server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(server.Close)
	return server, reached
}

// post sends through a guard.
func post(t *testing.T, g guard, resolver *net.Resolver, url string) result {
	t.Helper()
	d := &Dispatcher{transport: g.transport(resolver, &tls.Config{InsecureSkipVerify: true}), now: time.Now}
	t.Cleanup(d.transport.(*http.Transport).CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("secret payload"))
	if err != nil {
		t.Fatal(err)
	}
	return d.exchange(req)
}

func TestNoSpellingOfThisMachineIsReached(t *testing.T) {
	server, reached := inner(t)
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	for _, host := range []string{
		"127.0.0.1", "localhost", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
		"[2002:7f00:1::]", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0",
	} {
		if r := post(t, guard{}, nil, "http://"+host+port+"/"); r.verdict != failed || r.status != 0 {
			t.Errorf("%s: got %+v, want a failure", host, r)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the inner service was reached %d times", n)
	}
	if r := post(t, guard{private: true}, nil, server.URL); r.verdict != delivered || reached.Load() != 1 {
		t.Errorf("with private addresses allowed: got %+v", r)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	server, reached := inner(t)
	redirect := httptest.NewServer(http.RedirectHandler(server.URL, http.StatusTemporaryRedirect))
	defer redirect.Close()
	r := post(t, guard{private: true}, nil, redirect.URL)
	if r.verdict != failed || r.status != http.StatusTemporaryRedirect || !strings.Contains(r.reason, server.URL) || reached.Load() != 0 {
		t.Errorf("got %+v, and the inner service was reached %d times", r, reached.Load())
	}
}

func TestAProxyOfTheEnvironmentIsIgnored(t *testing.T) {
	server, reached := inner(t)
	t.Setenv("HTTP_PROXY", server.URL)
	t.Setenv("HTTPS_PROXY", server.URL)
	if r := post(t, guard{}, nil, "http://192.0.2.1:9/"); !r.blocked || reached.Load() != 0 {
		t.Errorf("got %+v, the proxy was reached %d times", r, reached.Load())
	}
}

// rebinding is a name server that answers a public address first and 127.0.0.1
// from then on.
func rebinding(t *testing.T) *net.Resolver {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = socket.Close()
		wg.Wait()
	})
	wg.Go(func() {
		b := make([]byte, 512)
		asked := 0
		for {
			n, from, err := socket.ReadFrom(b)
			if err != nil {
				return
			}
			ip := []byte{192, 0, 2, 1} // documentation: nobody answers there, and the guard refuses it, too
			if asked++; asked > 1 {
				ip = []byte{127, 0, 0, 1}
			}
			_, _ = socket.WriteTo(dnsAnswer(b[:n], ip), from)
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
}

// dnsAnswer answers a query for an A record with one address, and any other with
// none (RFC 1035 §4.1).
func dnsAnswer(query, ip []byte) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5
	out := append([]byte(nil), query[:end]...)
	out[2], out[3] = 0x84, 0
	clear(out[6:12])
	if binary.BigEndian.Uint16(query[end-4:]) != 1 {
		return out
	}
	out[7] = 1
	return append(append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4), ip...)
}

func TestANameThatChangesItsAddressGainsNothing(t *testing.T) {
	server, reached := inner(t)
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	resolver := rebinding(t)
	for range 4 {
		if r := post(t, guard{}, resolver, "http://rebind.example"+port+"/"); !r.blocked {
			t.Errorf("got %+v, want an address that is not allowed", r)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the inner service was reached %d times", n)
	}
}

// raw is a server that writes what it likes.
func raw(t *testing.T, talk func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				_, _ = c.Read(make([]byte, 4096))
				talk(c)
			})
		}
	})
	return "http://" + l.Addr().String()
}

func TestAHostileAnswerIsBounded(t *testing.T) {
	bomb := &bytes.Buffer{}
	z := gzip.NewWriter(bomb)
	_, _ = z.Write(make([]byte, 50<<20))
	_ = z.Close()
	endless := func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
		piece := make([]byte, 64<<10)
		for {
			if _, err := c.Write(piece); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name string
		talk func(net.Conn)
		want verdict
	}{
		{"100 MB", endless, delivered},
		{"a gzip bomb", func(c net.Conn) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", bomb.Len())
			_, _ = c.Write(bomb.Bytes())
		}, delivered},
		{"1 MB of headers", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("a", 1<<20)+"\r\n\r\n")
		}, failed},
		{"closing in the body", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
		}, delivered},
		{"a reset instead of an answer", func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, failed},
		{"no HTTP", func(c net.Conn) { _, _ = io.WriteString(c, "hello\r\n\r\n") }, failed},
		{"a dripping body", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 503 No\r\nContent-Length: 1000\r\n\r\n")
			for {
				if _, err := c.Write([]byte{'.'}); err != nil {
					return
				}
				<-time.After(50 * time.Millisecond)
			}
		}, failed},
	} {
		var before, after runtime.MemStats
		url := raw(t, c.talk)
		runtime.ReadMemStats(&before)
		began := time.Now()
		r := post(t, guard{private: true}, nil, url)
		runtime.ReadMemStats(&after)
		if r.verdict != c.want {
			t.Errorf("%s: got %+v, want %v", c.name, r, c.want)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s: took %v", c.name, took)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s: allocated %d bytes", c.name, n)
		}
	}
}
