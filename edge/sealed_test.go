package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// testTLS is a server's configuration, of one version.
func testTLS(t testing.TB, version uint16) *tls.Config {
	t.Helper()
	certFile, keyFile, _ := writePair(t, t.TempDir(), "x")
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	config := c.TLS()
	config.MaxVersion = version
	config.SessionTicketsDisabled = true // they would come in front of what a test counts
	return config
}

var tlsVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

func TestGoGoesOnWithHalfATLSRecord(t *testing.T) {
	for _, version := range tlsVersions {
		if !resumes(testTLS(t, version)) {
			t.Errorf("%s: crypto/tls takes a temporary error for the end; TLS is served by goroutines now, and sealed_linux.go needs another way", tls.VersionName(version))
		}
	}
}

// socketOver opens a WebSocket over TLS.
func (h *house) socketOver(r *raw, path string) *wsClient {
	h.t.Helper()
	r.write(upgradeTo(path))
	r.answer().want(101)
	c := r.socket()
	c.t = h.t
	return c
}

func TestAnIdleTLSConnectionHasNoGoroutine(t *testing.T) {
	if noEpoll {
		t.Skip("this engine is goroutines")
	}
	h := newHouse(t, true, false)
	open := func() { h.socketOver(h.secure(h.knock(""), &tls.Config{}), "/v1/events?topic=a").push() }
	open()
	before := runtime.NumGoroutine()
	const n = 50
	for range n {
		open()
	}
	for wait := context.Background(); runtime.NumGoroutine() > before+n/2; {
		if wait.Err() != nil {
			t.Fatalf("got %d goroutines with %d connections more, want %d", runtime.NumGoroutine(), n, before)
		}
		runtime.Gosched() // the handshakes' are about to end
	}
}

// drip writes a byte at a time.
type drip struct{ net.Conn }

func (d drip) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := d.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func TestTLSRecordsMayComeInAnyPieces(t *testing.T) {
	h := newHouse(t, true, false)
	for _, version := range tlsVersions {
		r := h.knock("")
		r.conn = drip{r.conn}
		c := h.socketOver(h.secure(r, &tls.Config{MaxVersion: version}), "/v1/events")
		for i := range 3 {
			c.send(fmt.Sprintf(`{"id":%d,"ping":{}}`, i))
			if p := c.push(); p.Pong == nil {
				t.Errorf("%s: got %+v, want pong", tls.VersionName(version), p)
			}
		}
	}
}

func TestWhatTLSHasReadAheadIsUsed(t *testing.T) {
	h := newHouse(t, true, false)
	c := h.socketOver(h.secure(h.knock(""), &tls.Config{}), "/v1/events")
	big := fmt.Sprintf(`{"id":1,"publish":{"topic":"ahead","data":%q}}`, strings.Repeat("x", 60<<10))
	var all []byte
	const n = 5 // several times what a loop reads at once, in one write
	for range n {
		all = append(all, masked(ws.NewTextFrame([]byte(big)))...)
	}
	if _, err := c.conn.Write(all); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if p := c.push(); p.Published == nil || p.Published.Offset != uint64(i+1) {
			t.Fatalf("got %+v, want event %d published", p, i+1)
		}
	}
}

func TestAStalledTLSReaderLosesNothing(t *testing.T) {
	h := newHouse(t, true, false)
	for _, version := range tlsVersions {
		topic := fmt.Sprint("stall.", version)
		open := func() *wsClient {
			c := h.socketOver(h.secure(h.knock(""), &tls.Config{MaxVersion: version}), "/v1/events?topic="+topic)
			c.push()
			return c
		}
		slow, fast := open(), open()
		h.wantNothingLost(topic, slow, fast, 40)
	}
}

func TestDataThenTheEndOfTLSIsUsedAndTheConnectionFreed(t *testing.T) {
	h := newHouse(t, true, false)
	watcher := h.dialJSON("/v1/events?topic=end")
	watcher.push()
	<-h.opened
	for range 20 {
		c := h.socketOver(h.secure(h.knock(""), &tls.Config{}), "/v1/events?topic=a")
		c.push()
		<-h.opened
		c.send(`{"id":1,"publish":{"topic":"end","data":1}}`)
		_ = c.conn.(*tls.Conn).CloseWrite() // and the socket stays open
		<-h.closed
		_ = c.conn.Close()
		watcher.event()
	}
}

// sender seals records of TLS 1.3 by itself, for what crypto/tls would not send:
// RFC 8446 §5.2, §7.2 and §7.3.
type sender struct {
	t      testing.TB
	conn   net.Conn
	secret []byte
	number uint64
}

// newSender takes over where a client has sent nothing behind its handshake.
func newSender(t testing.TB, conn net.Conn, keyLog string) *sender {
	t.Helper()
	for line := range strings.Lines(keyLog) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" && len(f[2]) == 2*sha256.Size {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return &sender{t: t, conn: conn, secret: secret}
		}
	}
	t.Skip("the cipher suite is not the one with SHA-256")
	return nil
}

func (s *sender) expand(label string, length int) []byte {
	s.t.Helper()
	label = "tls13 " + label
	info := string(binary.BigEndian.AppendUint16(nil, uint16(length))) + string(rune(len(label))) + label + "\x00"
	out, err := hkdf.Expand(sha256.New, s.secret, info, length)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// record appends a record of a type.
func (s *sender) record(dst []byte, kind byte, data string) []byte {
	s.t.Helper()
	block, err := aes.NewCipher(s.expand("key", 16))
	if err != nil {
		s.t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		s.t.Fatal(err)
	}
	nonce := s.expand("iv", 12)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^s.number)
	s.number++
	head := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(data)+1+aead.Overhead()))
	return aead.Seal(append(dst, head...), nonce, append([]byte(data), kind), head)
}

const (
	handshakeRecord, dataRecord = 22, 23
	keyUpdate                   = "\x18\x00\x00\x01\x01" // of both sides (RFC 8446 §4.6.3)
)

func TestClientsMayChangeTheirKeys(t *testing.T) {
	h := newHouse(t, true, false)
	var keys bytes.Buffer
	r := h.knock("")
	tcp := r.conn
	r = h.secure(r, &tls.Config{KeyLogWriter: &keys})
	s := newSender(t, tcp, keys.String())
	const rounds = 10 // crypto/tls takes 16 answers in a row, at most
	out := s.record(nil, dataRecord, upgradeTo("/v1/events"))
	for range rounds {
		out = s.record(out, dataRecord, masked(ws.NewTextFrame([]byte(`{"id":1,"ping":{}}`))))
		out = s.record(out, handshakeRecord, keyUpdate[:2]) // in two records, and two writes
		if _, err := tcp.Write(out); err != nil {
			t.Fatal(err)
		}
		out = s.record(nil, handshakeRecord, keyUpdate[2:])
		s.secret, s.number = s.expand("traffic upd", sha256.Size), 0
	}
	out = s.record(out, dataRecord, masked(ws.NewTextFrame([]byte(`{"id":2,"publish":{"topic":"a","data":1}}`))))
	if _, err := tcp.Write(out); err != nil {
		t.Fatal(err)
	}
	r.answer().want(101)
	c := r.socket()
	for range rounds {
		if p := c.push(); p.Pong == nil {
			t.Fatalf("got %+v, want pong", p)
		}
	}
	if p := c.push(); p.Published == nil {
		t.Errorf("got %+v, want the publish's answer", p)
	}
}

func TestABrokenRecordEndsTheConnectionWithAnAlert(t *testing.T) {
	h := newHouse(t, true, false)
	r := h.knock("")
	tcp := r.conn
	c := h.socketOver(h.secure(r, &tls.Config{}), "/v1/events?topic=a")
	c.push()
	if _, err := tcp.Write([]byte("\x17\x03\x03\x00\x20" + strings.Repeat("x", 32))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.next(); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("got %v, want the alert", err)
	}
	<-h.closed
}

// pair is a TLS connection between a poller and a client.
func pair(t testing.TB, p poller, config *tls.Config) (fd int32, client *tls.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	_ = other.(*net.TCPConn).SetWriteBuffer(4 << 10)
	server := tls.Server(sealable(other, other.RemoteAddr()), config)
	client = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	if fd, err = p.add(incoming{conn: server}, 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.close(fd) })
	return fd, client
}

// drainTo reads what a client gets, and tells of each n bytes.
func drainTo(client net.Conn, n int) chan struct{} {
	got := make(chan struct{}, 1)
	go func() {
		in := bufio.NewReader(client)
		for {
			if _, err := in.Discard(n); err != nil {
				return
			}
			got <- struct{}{}
		}
	}()
	return got
}

func needEpoll(t testing.TB) poller {
	t.Helper()
	if noEpoll || !haveEpoll {
		t.Skip("this engine is goroutines")
	}
	p, err := newEpoll()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	return p
}

func TestWritingOverTLSAllocatesNothing(t *testing.T) {
	p := needEpoll(t)
	fd, client := pair(t, p, testTLS(t, 0))
	frames := [][]byte{make([]byte, 100), make([]byte, 200)}
	got := drainTo(client.NetConn(), 5+300+1+16) // a record
	write := func() {
		if n, err := p.write(fd, frames); n != 300 || err != nil {
			t.Fatalf("got %d and %v, want 300", n, err)
		}
		<-got
	}
	write()
	if n := testing.AllocsPerRun(100, write); n > 0.1 && !raceDetector {
		t.Errorf("got %v allocations a write, want none", n)
	}
}

func BenchmarkWriteOverTLS(b *testing.B) {
	p := needEpoll(b)
	fd, client := pair(b, p, testTLS(b, 0))
	frames := [][]byte{make([]byte, 150)}
	got := drainTo(client.NetConn(), 5+150+1+16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.write(fd, frames); err != nil {
			b.Fatal(err)
		}
		<-got
	}
}

// TestWhatIsSealedIsSentInFull writes until the socket is full, in pieces that
// change behind the last byte that was taken, as the loop's may.
func TestWhatIsSealedIsSentInFull(t *testing.T) {
	p := needEpoll(t)
	fd, client := pair(t, p, testTLS(t, 0))
	slow := 0
	want := sha256.New()
	total, full := 0, false
	for round := 0; !full; round++ {
		piece := bytes.Repeat([]byte{byte(round)}, 100_000)
		n, err := p.write(fd, [][]byte{piece[:30_000], piece[30_000:]})
		full = err == errAgain
		if !full && (n != len(piece) || err != nil) {
			t.Fatalf("got %d and %v, want all of %d taken", n, err, len(piece))
		}
		want.Write(piece[:n])
		total += n
		if full {
			last := piece[n : n+1] // was begun; what stands behind it was not
			end := []byte("the end")
			want.Write(append(last, end...))
			total += 1 + len(end)
			got := sha256.New()
			read := make(chan error, 1)
			go func() {
				buf, left := make([]byte, 8<<10), total
				for left > 0 {
					n, err := client.Read(buf)
					got.Write(buf[:n])
					if left -= n; err != nil {
						read <- err
						return
					}
				}
				read <- nil
			}()
			for out := [][]byte{last, end}; len(out) > 0; {
				n, err := p.write(fd, out)
				if err != nil && err != errAgain {
					t.Fatal(err)
				}
				if n == 0 && err == nil {
					slow++
				}
				for len(out) > 0 && n >= len(out[0]) {
					n -= len(out[0])
					out = out[1:]
				}
				if len(out) > 0 {
					out[0] = out[0][n:]
				}
				runtime.Gosched()
			}
			if err := <-read; err != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				t.Errorf("got other bytes than were written, or %v", err)
			}
			if slow == 0 {
				t.Error("a client that reads slowly was taken for one that does not read")
			}
		}
	}
}
