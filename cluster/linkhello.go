package cluster

import (
	"errors"
	"io"
)

// hello is the first thing on a peer connection. Its own form is the same in all
// versions, so that each can say that it does not know another.
type hello struct {
	cluster, from, to string
	kind              Kind
	version           uint8 // of the protocol, on this connection
}

const helloMagic = "pushd" // the version follows

var errHello = errors.New("not a pushd node's hello")

func (h hello) append(dst []byte) []byte {
	dst = append(append(dst, helloMagic...), h.version, byte(h.kind))
	for _, s := range []string{h.cluster, h.from, h.to} {
		dst = append(append(dst, byte(len(s))), s...)
	}
	return dst
}

func readHello(r io.Reader) (h hello, err error) {
	head := make([]byte, len(helloMagic)+2)
	if _, err := io.ReadFull(r, head); err != nil {
		return h, err
	}
	if string(head[:len(helloMagic)]) != helloMagic {
		return h, errHello
	}
	h.version, h.kind = head[len(helloMagic)], Kind(head[len(helloMagic)+1])
	for _, s := range []*string{&h.cluster, &h.from, &h.to} {
		var n [1]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return h, err
		}
		text := make([]byte, n[0])
		if _, err := io.ReadFull(r, text); err != nil {
			return h, err
		}
		*s = string(text)
	}
	return h, nil
}
