package cluster

import (
	"errors"
	"io"
)

// hello is the first thing on a peer connection.
type hello struct {
	cluster, from, to string
	kind              Kind
}

const helloMagic = "pushd\x01" // with the version of the peer protocol

var errHello = errors.New("not a pushd node's hello, or of another version")

func (h hello) append(dst []byte) []byte {
	dst = append(append(dst, helloMagic...), byte(h.kind))
	for _, s := range []string{h.cluster, h.from, h.to} {
		dst = append(append(dst, byte(len(s))), s...)
	}
	return dst
}

func readHello(r io.Reader) (h hello, err error) {
	head := make([]byte, len(helloMagic)+1)
	if _, err := io.ReadFull(r, head); err != nil {
		return h, err
	}
	if string(head[:len(helloMagic)]) != helloMagic {
		return h, errHello
	}
	h.kind = Kind(head[len(helloMagic)])
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
