package broker

import "github.com/pushd/pushd/protocol"

// appendStored writes what became of a batch, for the node that sent it.
func appendStored(dst []byte, results []stored) []byte {
	dst = appendUvarint(dst, uint64(len(results)))
	for _, s := range results {
		var flags byte
		if s.duplicate {
			flags = 1
		}
		if s.err != nil {
			flags = 2
		}
		dst = append(dst, flags)
		if s.err != nil {
			dst = protocol.AppendBytes(dst, string(protocol.CodeOf(s.err)))
			dst = protocol.AppendBytes(dst, detailOf(s.err))
			dst = appendUvarint(dst, expectedOf(s.err))
			continue
		}
		for _, v := range []uint64{s.offset, s.epoch, s.position, uint64(s.time)} {
			dst = appendUvarint(dst, v)
		}
	}
	return dst
}

func detailOf(err error) string {
	if e, ok := err.(*protocol.Error); ok {
		return e.Detail
	}
	return err.Error()
}

// expectedOf is one more than the number that an error expects; 0: it expects none.
func expectedOf(err error) uint64 {
	if e, ok := err.(*protocol.Error); ok && e.Expected != nil {
		return *e.Expected + 1
	}
	return 0
}

func decodeStored(b []byte, n int) ([]stored, error) {
	r := protocol.NewBinaryReader(b)
	if got := r.Count(maxBatchEvents, 3); got != n {
		return nil, protocol.ErrBinary
	}
	results := make([]stored, n)
	for i := range results {
		s := &results[i]
		switch r.Byte() {
		case 1:
			s.duplicate = true
		case 2:
			code := protocol.Code(r.Text(maxNameBytes))
			refused := code.Errorf("%s", r.Text(maxEntryBytes))
			if n := r.Uvarint(); n > 0 {
				_ = refused.Expecting(n - 1)
			}
			s.err = refused
			continue
		}
		s.offset, s.epoch, s.position, s.time = r.Uvarint(), r.Uvarint(), r.Uvarint(), int64(r.Uvarint())
	}
	return results, r.Err()
}
