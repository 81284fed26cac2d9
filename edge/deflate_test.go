package edge

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/broker"
	"github.com/pushd/pushd/protocol"
)

func TestOffersOfPermessageDeflate(t *testing.T) { // RFC 7692 §5.1, §7, §7.1
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for offer, want := range map[string]string{
		"permessage-deflate":                                                         plain,
		"permessage-deflate; client_max_window_bits":                                 plain, // browsers
		"permessage-deflate;client_max_window_bits=10":                               plain,
		"permessage-deflate; server_no_context_takeover":                             plain,
		"permessage-deflate; client_no_context_takeover":                             plain,
		"permessage-deflate; server_max_window_bits=15":                              plain,
		"permessage-deflate; server_max_window_bits=8":                               plain + "; server_max_window_bits=8",
		`permessage-deflate; server_max_window_bits="9"`:                             plain + "; server_max_window_bits=9",
		"x-webkit, permessage-deflate":                                               plain,
		"permessage-deflate; server_max_window_bits=7, permessage-deflate":           plain, // a fallback, §5.2
		"permessage-deflate; server_max_window_bits=12, permessage-deflate":          plain + "; server_max_window_bits=12",
		"permessage-deflate; server_max_window_bits":                                 "", // §7.1.2.1: it has a value
		"permessage-deflate; server_max_window_bits=16":                              "",
		"permessage-deflate; server_max_window_bits=08":                              "",
		"permessage-deflate; client_max_window_bits=7":                               "", // §7.1.2.2
		"permessage-deflate; server_no_context_takeover=1":                           "", // §7.1.1.1: it has none
		"permessage-deflate; client_no_context_takeover=true":                        "",
		"permessage-deflate; server_no_context_takeover; server_no_context_takeover": "", // §7: named once
		"permessage-deflate; level=9":                                                "",
		"deflate-frame":                                                              "",
		"":                                                                           "",
	} {
		got := string(pickDeflate([]string{offer}).appendExtension(nil))
		if got = strings.TrimPrefix(got, "\r\nSec-WebSocket-Extensions: "); got != want {
			t.Errorf("%q: got %q, want %q", offer, got, want)
		}
	}
}

// examples are the RFC's own, all of "Hello".
var examples = map[string]string{
	"§7.2.3.1 one block":             "\xf2\x48\xcd\xc9\xc9\x07\x00",
	"§7.2.3.3 no compression":        "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
	"§7.2.3.4 BFINAL is set":         "\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
	"§7.2.3.5 two blocks":            "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
	"§7.2.3.4 blocks behind the end": "\xf3\x48\x05\x00\xca\xc9\xc9\x07\x00",
}

func TestTheExamplesOfRFC7692AreInflated(t *testing.T) {
	for name, in := range examples {
		if got, err := appendInflated([]byte("> "), []byte(in), 5); string(got) != "> Hello" || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if got, err := appendInflated(nil, []byte(in), 4); err != errInflatedTooBig || len(got) > 4 {
			t.Errorf("%s with a limit of 4: got %q, %v", name, got, err)
		}
	}
	if got, err := appendInflated(nil, []byte{0}, 4); err != nil || len(got) > 0 {
		t.Errorf("§7.2.3.6 an empty message: got %q, %v", got, err)
	}
}

// words compress well, noise does not.
func words(n int) []byte { return bytes.Repeat([]byte("all work and no play "), n/21+1)[:n] }

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestEveryWindowReadsBackAndIsKeptTo(t *testing.T) { // RFC 7692 §7.1.2.1, §7.2.1
	for window := windowBits(8); window <= fullWindow; window++ {
		far := noise(1<<window + 1)
		for _, in := range [][]byte{words(300), words(100_000), append(far, far...)} {
			d := deflaters.New().(*deflater)
			out := bytes.Clone(d.deflate(in, window))
			got, err := appendInflated(nil, out, len(in))
			if err != nil || !bytes.Equal(got, in) {
				t.Fatalf("window %d, %d bytes: got %d and %v", window, len(in), len(got), err)
			}
			if in[0] == far[0] && len(out) < len(in) {
				t.Errorf("window %d: %d bytes that repeat from further away got %d", window, len(in), len(out))
			}
		}
	}
}

func deflating(o *Options) { o.Deflate = true }

// dialDeflate offers permessage-deflate.
func (s *site) dialDeflate(path, offer string) *wsClient {
	s.t.Helper()
	r := s.raw()
	r.write(strings.Replace(upgradeTo(path), "\r\n\r\n", "\r\nSec-WebSocket-Extensions: "+offer+"\r\n\r\n", 1))
	a := r.answer().want(101)
	if a.Header.Get("Sec-WebSocket-Extensions") == "" {
		s.t.Fatal("the offer was declined")
	}
	return r.socket()
}

// squeezed makes a frame of a compressed message.
func squeezed(payload []byte) ws.Frame {
	f := ws.NewTextFrame(bytes.Clone(deflaters.New().(*deflater).deflate(payload, fullWindow)))
	f.Header.Rsv = 4
	return f
}

func TestEventsAreCompressedWhereThatIsWorthIt(t *testing.T) { // RFC 7692 §6.1, §7.2.1
	s := newSite(t, deflating)
	c := s.dialDeflate("/v1/events?topic=a", "permessage-deflate; server_max_window_bits=9")
	other := s.dialJSON("/v1/events?topic=a")
	c.push()
	other.push()
	for _, e := range []struct {
		payload string
		want    byte
	}{{string(words(2000)), 4}, {"short", 0}} {
		s.publishText("a", e.payload)
		f := c.read()
		if f.Header.Rsv != e.want {
			t.Errorf("%d bytes: got RSV %d, want %d", len(e.payload), f.Header.Rsv, e.want)
		}
		if f.Header.Rsv == 4 {
			var err error
			if f.Payload, err = appendInflated(nil, f.Payload, 1<<20); err != nil {
				t.Fatal(err)
			}
		}
		if want := other.read(); want.Header.Rsv != 0 || !bytes.Equal(f.Payload, want.Payload) {
			t.Errorf("got %.200q, want what a reader without it gets: %.200q", f.Payload, want.Payload)
		}
	}
}

func TestCompressionIsOffUnlessAskedFor(t *testing.T) {
	offer := strings.Replace(upgradeTo("/v1/events"), "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1)
	r := newSite(t).raw()
	r.write(offer)
	r.answer().want(101).wantHeader("Sec-WebSocket-Extensions", "")
	c := r.socket()
	c.frame(squeezed([]byte(`{"id":1,"ping":{}}`)))
	c.wantClose(protocol.CloseProtocol)
	on := newSite(t, deflating).raw()
	on.write(upgradeTo("/v1/events")) // nothing is offered
	on.answer().want(101).wantHeader("Sec-WebSocket-Extensions", "")
}

func TestACompressedMessageMayComeInFrames(t *testing.T) { // RFC 7692 §6.1, §6.2
	c := newSite(t, deflating).dialDeflate("/v1/events", "permessage-deflate")
	whole := squeezed([]byte(`{"id":1,"ping":{}}`))
	first, rest := whole, ws.NewFrame(ws.OpContinuation, true, whole.Payload[3:])
	first.Payload, first.Header.Length, first.Header.Fin = whole.Payload[:3], 3, false
	c.frame(first)
	c.frame(ws.NewPingFrame(nil)) // which is never compressed
	c.frame(rest)
	if f := c.read(); f.Header.OpCode != ws.OpPong {
		t.Errorf("got %v, want a pong frame", f.Header.OpCode)
	}
	if p := c.push(); p.Pong == nil {
		t.Errorf("got %+v, want pong", p)
	}
	c.send(`{"id":2,"ping":{}}`) // §6: one that is not compressed may follow
	if p := c.push(); p.Pong == nil {
		t.Errorf("got %+v, want pong", p)
	}
}

func TestCompressedFramesFollowRFC7692(t *testing.T) {
	s := newSite(t, deflating)
	rsv := func(f ws.Frame, bits byte) string {
		f.Header.Rsv = bits
		return masked(f)
	}
	bomb := squeezed(make([]byte, 32<<20))
	for _, r := range []rule{
		{"§6.1 a continuation has no RSV1", masked(ws.NewFrame(ws.OpText, false, nil)) + rsv(ws.NewFrame(ws.OpContinuation, true, nil), 4), violation},
		{"§6.1 a control frame has no RSV1", rsv(ws.NewPingFrame(nil), 4), violation},
		{"§6 RSV2 and RSV3 have no meaning", rsv(ws.NewTextFrame(nil), 6), violation},
		{"§7.2.2 no DEFLATE data", rsv(ws.NewTextFrame([]byte("\xff\xff\xff")), 4), protocol.CloseBadData},
		{"§7.2.2 text is UTF-8 once it is inflated", masked(squeezed([]byte{0xff})), protocol.CloseBadData},
		{fmt.Sprintf("§8 %d bytes that become 32 MiB", len(bomb.Payload)), masked(bomb), protocol.CloseTooBig},
	} {
		t.Run(r.name, func(t *testing.T) {
			c := s.dialDeflate("/v1/events", "permessage-deflate")
			c.t = t
			_, _ = c.conn.Write([]byte(r.send))
			c.wantClose(r.want)
		})
	}
}

// bigItems are events as a pull gives them.
func bigItems(n int) (items []broker.Item) {
	for i := range n {
		e := &broker.Record{Event: protocol.Event{Topic: "a", ID: "1", ContentType: "text/plain", Data: words(1024), Offset: uint64(i + 1)}}
		items = append(items, broker.Item{Event: e, Cursor: "c"})
	}
	return items
}

func TestReadersShareWhatIsCompressed(t *testing.T) {
	k := &chunk{items: bigItems(3)}
	v := variant{form: formJSON, window: fullWindow}
	once := k.encode(v)
	if again := k.encode(v); &again.bytes[0] != &once.bytes[0] {
		t.Error("compressed again for a second reader")
	}
	if once.bytes[0]&rsv1 == 0 || once.ends[2] != len(once.bytes) {
		t.Errorf("got a first byte of %#x and ends %v of %d bytes", once.bytes[0], once.ends, len(once.bytes))
	}
	for n := range uint64(maxForms) {
		k.encode(variant{form: formJSON, numbered: true, number: n})
	}
	v.numbered, v.number = true, 99
	if alone := k.encode(v); alone.bytes[0]&rsv1 != 0 {
		t.Error("compressed for one reader that shares it with nobody")
	}
}

func TestACompressedFrameCostsNoAllocation(t *testing.T) {
	frame := appendItemOf(words(1024))
	room := make([]byte, 0, 2*len(frame))
	if n := testing.AllocsPerRun(200, func() { deflateFrame(append(room, frame...), 0, fullWindow) }); n > 0.1 && !raceDetector {
		t.Errorf("got %v allocations, want none", n)
	}
	message, plain := squeezed(words(1024)).Payload, make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(200, func() { _, _ = appendInflated(plain, message, 1024) }); n > 0.1 && !raceDetector {
		t.Errorf("inflating: got %v allocations, want none", n)
	}
}

func appendItemOf(payload []byte) []byte {
	dst, start := openFrame(nil)
	return closeFrame(append(dst, payload...), start, ws.OpText)
}

func BenchmarkDeflateFrame(b *testing.B) {
	for _, size := range []int{256, 1024, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			frame := appendItemOf(words(size))
			room := make([]byte, 0, 2*len(frame))
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				deflateFrame(append(room, frame...), 0, fullWindow)
			}
		})
	}
}

func FuzzInflate(f *testing.F) {
	for _, in := range examples {
		f.Add([]byte(in), uint16(100))
	}
	f.Add(squeezed(make([]byte, 1<<16)).Payload, uint16(1<<15))
	f.Add(noise(64), uint16(0))
	f.Fuzz(func(t *testing.T, in []byte, limit uint16) {
		got, err := appendInflated(nil, in, int(limit))
		if len(got) > int(limit) || cap(got) > 2*int(limit)+1024 {
			t.Fatalf("%d bytes with room for %d, the limit is %d", len(got), cap(got), limit)
		}
		if err != nil || len(got) == 0 {
			return
		}
		d := deflaters.Get().(*deflater)
		defer deflaters.Put(d)
		for _, window := range []windowBits{8, 11, 15} {
			again, err := appendInflated(nil, d.deflate(got, window), len(got))
			if err != nil || !bytes.Equal(again, got) {
				t.Fatalf("window %d: %q came back as %q, %v", window, got, again, err)
			}
		}
	})
}
