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
			s.err = code.Errorf("%s", r.Text(maxEntryBytes))
			continue
		}
		s.offset, s.epoch, s.position, s.time = r.Uvarint(), r.Uvarint(), r.Uvarint(), int64(r.Uvarint())
	}
	return results, r.Err()
}
