package edge

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
)

// binaryHeader is a PROXY header of version 2.
func binaryHeader(command, family byte, body string) string {
	return proxySignature + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

const (
	four = "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x67\x01\xbb"
	six  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x12\x67\x01\xbb"
)

var proxyHeaders = []struct{ header, want string }{
	{"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n", "192.0.2.1:4711"},
	{"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n", "[2001:db8::1]:4711"},
	{"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 4711 443\r\n", "192.0.2.1:4711"},
	{"PROXY UNKNOWN\r\n", ""},
	{"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""},
	{binaryHeader(0x21, 0x11, four), "192.0.2.1:4711"},
	{binaryHeader(0x21, 0x11, four+"\x04\x00\x02hi"), "192.0.2.1:4711"},
	{binaryHeader(0x21, 0x21, six), "[2001:db8::1]:4711"},
	{binaryHeader(0x21, 0x31, strings.Repeat("a", 216)), ""},
	{binaryHeader(0x21, 0x00, ""), ""},
	{binaryHeader(0x20, 0x11, four), ""},
	{binaryHeader(0x20, 0x00, strings.Repeat("x", maxProxyBytes)), ""},
}

var badProxyHeaders = []string{
	"", "PROXY", "PROXY \r\n", "PROXY  UNKNOWN\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PROXY TCP4 192.0.2.1",
	"PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\n", "PROXY TCP4 192.0.2.1 192.0.2.2 4711 65536\r\n",
	"PROXY TCP4 192.0.2.1 192.0.2.2 -1 443\r\n", "PROXY TCP4 2001:db8::1 2001:db8::2 4711 443\r\n", "PROXY TCP6 192.0.2.1 192.0.2.2 4711 443\r\n",
	"PROXY TCP6 fe80::1%eth0 fe80::2 4711 443\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 4711 443 6\r\n", "PROXY TCP5 192.0.2.1 192.0.2.2 4711 443\r\n",
	"PROXY UNKNOWN " + strings.Repeat("x", maxProxyLine) + "\r\n",
	proxySignature, binaryHeader(0x21, 0x11, four[:11]), binaryHeader(0x21, 0x11, four)[:20], binaryHeader(0x11, 0x11, four),
	binaryHeader(0x22, 0x11, four), binaryHeader(0x21, 0x12, four), binaryHeader(0x20, 0x00, strings.Repeat("x", maxProxyBytes+1)),
}

func TestAProxyHeaderNamesTheClientAndEndsWhereItEnds(t *testing.T) {
	for _, c := range proxyHeaders {
		in := bytes.NewBufferString(c.header + "GET /")
		got, err := readProxy(in)
		if text := got.String(); err != nil || c.want == "" && got.IsValid() || c.want != "" && text != c.want {
			t.Errorf("%q: got %v and %v, want %q", c.header, got, err, c.want)
		}
		if in.String() != "GET /" {
			t.Errorf("%q: got %q behind it, want GET /", c.header, in)
		}
	}
	for _, header := range badProxyHeaders {
		if got, err := readProxy(strings.NewReader(header)); !errors.Is(err, errProxy) || got.IsValid() {
			t.Errorf("%q: got %v and %v, want it refused", header, got, err)
		}
	}
}

func FuzzReadProxy(f *testing.F) {
	for _, c := range proxyHeaders {
		f.Add([]byte(c.header))
	}
	for _, header := range badProxyHeaders {
		f.Add([]byte(header))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		from, err := readProxy(in)
		used := b[:len(b)-in.Len()]
		if len(used) > len(proxySignature)+4+maxProxyBytes {
			t.Errorf("%d bytes were read, beyond the limit", len(used))
		}
		if err != nil {
			if !errors.Is(err, errProxy) || from != (netip.AddrPort{}) {
				t.Errorf("got %v and %v", from, err)
			}
			return
		}
		again, err := readProxy(io.MultiReader(bytes.NewReader(used), strings.NewReader("\n")))
		if err != nil || again != from {
			t.Errorf("%q: got %v and %v by what was used alone, want %v", used, again, err, from)
		}
	})
}
