package edge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// errProxy says that a connection does not begin with a PROXY header.
var errProxy = errors.New("no valid PROXY header")

const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n" // of version 2
	maxProxyLine   = 107                      // of version 1, with its end
	maxProxyBytes  = 4 << 10                  // of version 2, addresses and what else it says
)

// readProxy reads a PROXY header, version 1 or 2, and not a byte more: what
// comes behind it is the client's. The address is invalid if the header names
// none, as those of a proxy's own checks (haproxy.org, proxy-protocol.txt).
func readProxy(r io.Reader) (netip.AddrPort, error) {
	var first [len(proxySignature)]byte // no header is shorter
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w", errProxy, err)
	}
	if string(first[:]) == proxySignature {
		return readProxyBinary(r)
	}
	if !bytes.HasPrefix(first[:], []byte("PROXY ")) {
		return netip.AddrPort{}, fmt.Errorf("%w: it begins with %q", errProxy, first)
	}
	line := make([]byte, len(first), maxProxyLine)
	copy(line, first[:])
	for line[len(line)-1] != '\n' {
		if len(line) == maxProxyLine {
			return netip.AddrPort{}, fmt.Errorf("%w: its line is too long", errProxy)
		}
		line = line[:len(line)+1]
		if _, err := io.ReadFull(r, line[len(line)-1:]); err != nil {
			return netip.AddrPort{}, fmt.Errorf("%w: %w", errProxy, err)
		}
	}
	return parseProxyLine(string(line))
}

// parseProxyLine reads "PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n".
func parseProxyLine(line string) (from netip.AddrPort, err error) {
	text, whole := strings.CutSuffix(line, "\r\n")
	f := strings.Split(text, " ")
	if whole && f[1] == "UNKNOWN" {
		return from, nil // whatever stands behind it
	}
	if !whole || len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return from, fmt.Errorf("%w: %q", errProxy, line)
	}
	from, err = proxyAddress(f[1], f[2], f[4])
	if err == nil {
		_, err = proxyAddress(f[1], f[3], f[5])
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %q: %w", errProxy, line, err)
	}
	return from, nil
}

func proxyAddress(family, host, port string) (netip.AddrPort, error) {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if ip.Is4() != (family == "TCP4") || ip.Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%s is no address of %s", host, family)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), err
}

// readProxyBinary reads what stands behind the signature of version 2.
func readProxyBinary(r io.Reader) (from netip.AddrPort, err error) {
	var head [4]byte // version and command, family and protocol, length
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return from, fmt.Errorf("%w: %w", errProxy, err)
	}
	length := int(binary.BigEndian.Uint16(head[2:]))
	if length > maxProxyBytes {
		return from, fmt.Errorf("%w: it has %d bytes, at most %d are taken", errProxy, length, maxProxyBytes)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return from, fmt.Errorf("%w: %w", errProxy, err)
	}
	return parseProxyBinary(head[0], head[1], body)
}

func parseProxyBinary(command, family byte, body []byte) (from netip.AddrPort, err error) {
	const (
		local, proxy            = 0x20, 0x21 // version 2, and the command
		unspecified, tcp4, tcp6 = 0x00, 0x11, 0x21
		unixStream              = 0x31
	)
	size := map[byte]int{unspecified: 0, tcp4: 2 * (4 + 2), tcp6: 2 * (16 + 2), unixStream: 2 * 108}
	need, known := size[family]
	switch {
	case command == local:
		return from, nil // the proxy itself, whatever stands behind it
	case command != proxy || !known || len(body) < need:
		return from, fmt.Errorf("%w: command %#x, family %#x, %d bytes", errProxy, command, family, len(body))
	case family == tcp4:
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:]))
	case family == tcp6:
		from = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)).Unmap(), binary.BigEndian.Uint16(body[32:]))
	}
	return from, nil
}

// proxied is a connection whose client is not the socket's other end.
type proxied struct {
	net.Conn
	from net.Addr
}

func (p *proxied) RemoteAddr() net.Addr { return p.from }

// CloseWrite ends the stream below.
func (p *proxied) CloseWrite() error {
	closeWrite(p.Conn)
	return nil
}
