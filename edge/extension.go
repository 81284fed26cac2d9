package edge

import (
	"strconv"
	"strings"
)

// windowBits is the window of permessage-deflate (RFC 7692) that a connection's
// frames are compressed with: 8 to 15; 0 is no compression.
type windowBits uint8

// fullWindow is DEFLATE's own, and what an offer without a number means.
const fullWindow windowBits = 15

// pickDeflate takes the first offer of permessage-deflate that can be served
// (RFC 7692 §5.1); 0 if there is none. An offer with a parameter that is
// unknown, repeated or malformed is declined (§7).
func pickDeflate(values []string) windowBits {
	for offer := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if bits, ok := readOffer(offer); ok {
			return bits
		}
	}
	return 0
}

// readOffer reads one offer: the window that the client's inflater has.
func readOffer(offer string) (windowBits, bool) {
	name, rest, more := strings.Cut(offer, ";")
	if strings.TrimSpace(name) != "permessage-deflate" {
		return 0, false
	}
	bits, seen := fullWindow, map[string]bool{}
	for more {
		var param string
		param, rest, more = strings.Cut(rest, ";")
		key, value, valued := strings.Cut(param, "=")
		key, value = strings.TrimSpace(key), unquoted(strings.TrimSpace(value))
		if seen[key] {
			return 0, false
		}
		seen[key] = true
		n, ok := readWindow(value)
		switch key {
		case "server_no_context_takeover", "client_no_context_takeover":
			ok = !valued
		case "server_max_window_bits":
			bits = n
		case "client_max_window_bits": // a hint: inflating takes any window
			ok = ok || !valued
		default:
			ok = false
		}
		if !ok {
			return 0, false
		}
	}
	return bits, true
}

// readWindow reads 8 to 15, without leading zeros (RFC 7692 §7.1.2).
func readWindow(value string) (windowBits, bool) {
	n, err := strconv.Atoi(value)
	return windowBits(n), err == nil && n >= 8 && n <= 15 && strconv.Itoa(n) == value
}

// unquoted takes the quotes off a parameter's value (RFC 6455 §9.1).
func unquoted(value string) string {
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		return value[1 : len(value)-1]
	}
	return value
}

// appendExtension answers an offer. Neither side keeps its window from one
// message to the next: a connection holds no state for it, and what one reader
// is sent others can be sent too.
func (w windowBits) appendExtension(dst []byte) []byte {
	if w == 0 {
		return dst
	}
	dst = append(dst, "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"...)
	if w != fullWindow {
		dst = strconv.AppendInt(append(dst, "; server_max_window_bits="...), int64(w), 10)
	}
	return dst
}
