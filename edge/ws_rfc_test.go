package edge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

// bits makes a frame of its first byte, which ws.Frame would not.
func bits(first byte, payload string) string {
	f := []byte(masked(ws.NewTextFrame([]byte(payload))))
	f[0] = first
	return string(f)
}

func closing(code int, reason string) string {
	body := append([]byte{byte(code >> 8), byte(code)}, reason...)
	return masked(ws.NewCloseFrame(body))
}

// rule is one of RFC 6455 that a server answers with a close code.
type rule struct {
	name, send string
	want       protocol.CloseCode
}

const violation = protocol.CloseProtocol

func rulesOfFrames() []rule {
	return []rule{
		{"§5.1 a client's frame is masked", string(ws.MustCompileFrame(ws.NewTextFrame([]byte("{}")))), violation},
		{"§5.2 RSV1 without an extension", bits(0xc1, "x"), violation},
		{"§5.2 RSV2 without an extension", bits(0xa1, "x"), violation},
		{"§5.2 RSV3 without an extension", bits(0x91, "x"), violation},
		{"§5.2 a length in its shortest form, 16 bits", "\x81\xfe\x00\x01\x00\x00\x00\x00x", violation},
		{"§5.2 a length in its shortest form, 64 bits", "\x81\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00x", violation},
		{"§5.2 a length's highest bit is 0", "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00x", violation},
		{"§5.4 a continuation continues something", masked(ws.NewFrame(ws.OpContinuation, true, nil)), violation},
		{"§5.4 a message ends before the next", masked(ws.NewFrame(ws.OpText, false, nil)) + masked(ws.NewTextFrame(nil)), violation},
		{"§5.5 a control frame has at most 125 bytes", masked(ws.NewPingFrame(make([]byte, 126))), violation},
		{"§5.5 a control frame is whole", masked(ws.NewFrame(ws.OpPing, false, nil)), violation},
		{"§5.5.1 a close body has a code", masked(ws.NewCloseFrame([]byte{3})), violation},
		{"§5.5.1 a close reason is UTF-8", closing(1000, "\xff"), protocol.CloseBadData},
		{"§5.5.1 a close between fragments is answered", masked(ws.NewFrame(ws.OpText, false, []byte("x"))) + closing(1000, ""), 1000},
		{"§8.1 text has no surrogates", masked(ws.NewTextFrame([]byte("\xed\xa0\x80"))), protocol.CloseBadData},
		{"§8.1 text has no character in more bytes than it takes", masked(ws.NewTextFrame([]byte("\xc0\x80"))), protocol.CloseBadData},
		{"§8.1 text has no character above U+10FFFF", masked(ws.NewTextFrame([]byte("\xf4\x90\x80\x80"))), protocol.CloseBadData},
		{"§8.1 text ends with a whole character", masked(ws.NewTextFrame([]byte("{}\xe2\x82"))), protocol.CloseBadData},
		{"§8.1 text is UTF-8", masked(ws.NewTextFrame([]byte{0xff})), protocol.CloseBadData},
		{"§8.1 text is UTF-8 over all of its frames", masked(ws.NewFrame(ws.OpText, false, []byte("\xc3"))) + masked(ws.NewFrame(ws.OpContinuation, true, []byte("x"))), protocol.CloseBadData},
		{"§10.4 a message that is too big", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", protocol.CloseTooBig},
		{"§10.4 too many fragments", masked(ws.NewFrame(ws.OpText, false, []byte("x"))) + strings.Repeat(masked(ws.NewFrame(ws.OpContinuation, false, []byte("x"))), maxFragments), protocol.CloseTooBig},
	}
}

// rulesOfNumbers are those that hold for many numbers.
func rulesOfNumbers() (rules []rule) {
	for _, op := range []ws.OpCode{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		rules = append(rules, rule{fmt.Sprintf("§5.2 opcode %#x is reserved", op), masked(ws.NewFrame(op, true, nil)), violation})
	}
	for _, length := range []uint64{1 << 31, 1 << 32, 1<<63 - 1} {
		head := binary.BigEndian.AppendUint64([]byte("\x82\xff"), length)
		rules = append(rules, rule{fmt.Sprintf("§10.4 a length of %d", length), string(head) + "\x00\x00\x00\x00", protocol.CloseTooBig})
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
		rules = append(rules, rule{fmt.Sprintf("§7.4 code %d is not to be sent", code), closing(code, ""), violation})
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		rules = append(rules, rule{fmt.Sprintf("§5.5.1 code %d is echoed", code), closing(code, "bye"), protocol.CloseCode(code)})
	}
	return rules
}

func TestFramesFollowRFC6455(t *testing.T) {
	s := newSite(t)
	for _, r := range append(rulesOfFrames(), rulesOfNumbers()...) {
		t.Run(r.name, func(t *testing.T) {
			c := s.dialJSON("/v1/events")
			c.t = t
			if _, err := c.conn.Write([]byte(r.send)); err != nil {
				t.Fatal(err)
			}
			c.wantClose(r.want)
			if strings.HasPrefix(r.name, "§5.5.1 code") {
				c.wantEOF() // §7.1.1: the server ends the connection first
			}
		})
	}
}

func TestACloseWithoutABodyIsAnsweredSo(t *testing.T) { // RFC 6455 §5.5.1
	c := newSite(t).dialJSON("/v1/events")
	c.frame(ws.NewCloseFrame(nil))
	if f := c.read(); f.Header.OpCode != ws.OpClose || len(f.Payload) != 0 {
		t.Errorf("got %v %q, want an empty close", f.Header.OpCode, f.Payload)
	}
	c.wantEOF()
}

func TestNothingIsReadBehindAClose(t *testing.T) { // RFC 6455 §5.5.1
	s := newSite(t)
	c := s.dialJSON("/v1/events")
	_, _ = c.conn.Write([]byte(closing(1000, "") + masked(ws.NewTextFrame([]byte(`{"publish":{"topic":"a","data":1}}`)))))
	c.wantClose(1000)
	c.wantEOF()
	if n := len(s.get("/v1/events?topic=a").page().Events); n != 0 {
		t.Errorf("got %d events, want none", n)
	}
}

func TestNothingIsDoneBehindAViolation(t *testing.T) { // RFC 6455 §7.1.7
	s := newSite(t)
	for _, r := range rulesOfFrames() {
		c := s.dialJSON("/v1/events")
		_, _ = c.conn.Write([]byte(r.send + masked(ws.NewTextFrame([]byte(`{"publish":{"topic":"behind","data":1}}`)))))
		c.wantClose(r.want)
	}
	if n := len(s.get("/v1/events?topic=behind").page().Events); n != 0 {
		t.Errorf("got %d events, want none", n)
	}
}

func TestOurFramesAreWholeUnmaskedAndShort(t *testing.T) { // RFC 6455 §5.1, §5.2
	s := newSite(t)
	c := s.dial("/v1/events?topic=a")
	for size, head := range map[int]int{0: 2, 125: 2, 126: 4, 300: 4, 60_000: 4, 65_535: 4, 65_536: 10} {
		s.publishText("a", strings.Repeat("x", size))
		h, err := ws.ReadHeader(c.in)
		if err != nil || !h.Fin || h.Masked || h.Rsv != 0 || h.OpCode != ws.OpText || h.Length != int64(size) {
			t.Errorf("%d bytes: got %+v and %v", size, h, err)
		}
		if got := ws.HeaderSize(h); got != head {
			t.Errorf("%d bytes: got a head of %d bytes, want %d", size, got, head)
		}
		_, _ = io.CopyN(io.Discard, c.in, h.Length)
	}
}

func TestEveryPingIsAnswered(t *testing.T) { // RFC 6455 §5.5.2, §5.5.3
	c := newSite(t).dialJSON("/v1/events")
	payloads := []string{"", "\xff\x00", strings.Repeat("p", 125), "last"}
	var all strings.Builder
	for _, p := range payloads {
		all.WriteString(masked(ws.NewPingFrame([]byte(p))))
	}
	_, _ = c.conn.Write([]byte(all.String()))
	for _, p := range payloads {
		if f := c.read(); f.Header.OpCode != ws.OpPong || string(f.Payload) != p {
			t.Errorf("got %v %q, want a pong with %q", f.Header.OpCode, f.Payload, p)
		}
	}
}

func TestBinaryDataIsAnyBytes(t *testing.T) { // RFC 6455 §5.6
	s := newSite(t)
	c := s.dial("/v1/events?topic=a")
	c.frame(ws.NewBinaryFrame([]byte{0xff, 0}))
	if f := c.read(); f.Header.OpCode != ws.OpBinary || string(f.Payload) != "\xff\x00" {
		t.Errorf("got %v %q, want the bytes back", f.Header.OpCode, f.Payload)
	}
}

func TestFragmentsAndControlFramesBetweenThem(t *testing.T) { // RFC 6455 §5.4, §5.5.2, §5.5.3
	c := newSite(t).dialJSON("/v1/events")
	c.frame(ws.NewPongFrame([]byte("unasked")))
	c.frame(ws.NewFrame(ws.OpText, false, []byte("{\"id\":1,\"ping\":{}}\n{\"id\":2,\"publish\":{\"topic\":\"\xc3")))
	c.frame(ws.NewPingFrame(bytes.Repeat([]byte("p"), 125)))
	c.frame(ws.NewFrame(ws.OpContinuation, false, nil))
	c.frame(ws.NewFrame(ws.OpContinuation, true, []byte("\xbc\",\"data\":1}}")))
	if f := c.read(); f.Header.OpCode != ws.OpPong || len(f.Payload) != 125 {
		t.Errorf("got %v of %d bytes, want the ping's payload back", f.Header.OpCode, len(f.Payload))
	}
	if p := c.push(); p.Pong == nil {
		t.Errorf("got %+v, want pong", p)
	}
	if p := c.push(); p.Error == nil || p.Error.Code != protocol.BadTopic {
		t.Errorf("got %+v, want bad_topic for a letter put together of two frames", p)
	}
}

func TestHandshakesFollowRFC6455(t *testing.T) { // RFC 6455 §4.2.1
	s := newSite(t)
	for _, change := range [][2]string{
		{"Connection: Upgrade", "Connection: close"},
		{"Version: 13", "Version: 8"},
		{"Sec-WebSocket-Version: 13\r\n", ""},
		{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""},
		{"Connection: Upgrade\r\n", ""},
		{"Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: dGhlIHNhbXBsZQ=="},
		{"Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: !!!!IHNhbXBsZSBub25jZQ=="},
	} {
		r := s.raw()
		r.write(strings.Replace(upgradeTo("/v1/events"), change[0], change[1], 1))
		r.answer().wantProblem(protocol.BadHandshake)
		if strings.Contains(change[1], "close") {
			continue
		}
		r.write(upgradeTo("/v1/events")) // the connection is still good
		r.answer().want(101)
	}
}
