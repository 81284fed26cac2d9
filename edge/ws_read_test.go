package edge

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/protocol"
)

func FuzzMessages(f *testing.F) {
	masked := func(fr ws.Frame) []byte { return ws.MustCompileFrame(ws.MaskFrame(fr)) }
	f.Add(masked(ws.NewTextFrame([]byte("hello"))))
	f.Add(append(masked(ws.NewFrame(ws.OpText, false, []byte("a"))), masked(ws.NewFrame(ws.OpContinuation, true, []byte("b")))...))
	f.Add(masked(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "bye"))))
	f.Add([]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 1 << 12
		var under assembly
		for rest := bytes.Clone(in); ; {
			fr, n, err := takeFrame(rest, &under, limit, false)
			if err != nil || n == 0 {
				return
			}
			rest = rest[n:]
			if len(fr.payload) > limit || fr.OpCode.IsControl() && (len(fr.payload) > maxControlBytes || !fr.Fin) {
				t.Fatalf("took a frame %v of %d bytes", fr.OpCode, len(fr.payload))
			}
			if fr.OpCode == ws.OpClose {
				if code, reason := closeEcho(fr.payload); len(reason) > maxControlBytes-2 || code == 1005 || code == 1006 {
					t.Fatalf("echo of %q: got %d %q", fr.payload, code, reason)
				}
			}
			if !fr.OpCode.IsControl() {
				under.op = ws.OpText
				under.data = append(under.data, fr.payload...)
				if len(under.data) > limit {
					t.Fatalf("took a message of %d bytes", len(under.data))
				}
				if fr.Fin {
					under = assembly{}
				}
			}
		}
	})
}

func TestFramesOfEverySizeReadBack(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		payload := bytes.Repeat([]byte("z"), n)
		dst, start := openFrame([]byte("before"))
		dst = closeFrame(append(dst, payload...), start, ws.OpBinary)
		dst = appendControl(dst, ws.OpPing, []byte("after"))
		in := bytes.NewReader(dst[len("before"):])
		for _, want := range [][]byte{payload, []byte("after")} {
			h, err := ws.ReadHeader(in)
			got := make([]byte, h.Length)
			if _, readErr := in.Read(got); err != nil || readErr != nil && h.Length > 0 || !bytes.Equal(got, want) || !h.Fin || h.Masked {
				t.Errorf("%d bytes: got %+v and %d bytes (%v), want %d", n, h, len(got), err, len(want))
			}
		}
	}
}

func TestACloseReasonIsCutAtACharacter(t *testing.T) {
	reason := clipReason("x" + string(bytes.Repeat([]byte("ü"), 100)))
	if len(reason) != 123 || !utf8.ValidString(reason) {
		t.Errorf("got %d bytes, valid %v; want 123 valid ones", len(reason), utf8.ValidString(reason))
	}
	if got := appendClose(nil, protocol.CloseNormal, ""); !bytes.Equal(got, []byte{0x88, 2, 3, 0xe8}) {
		t.Errorf("got % x, want 88 02 03 e8", got)
	}
}
