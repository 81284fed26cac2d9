package broker

// tail is the newest records of a partition in memory. Readers at the end of
// the log are fed from it; it also covers what is not yet written to file.
type tail struct {
	records []*Record
	sizes   []int64
	bytes   int64
}

func (t *tail) push(r *Record, size int64) {
	t.records = append(t.records, r)
	t.sizes = append(t.sizes, size)
	t.bytes += size
}

// at gives the record of a position, nil if the tail begins behind it.
func (t *tail) at(position uint64) *Record {
	if len(t.records) == 0 || position < t.records[0].Position {
		return nil
	}
	return t.records[position-t.records[0].Position]
}

// sizeAt is that of a record that is there.
func (t *tail) sizeAt(position uint64) int64 { return t.sizes[position-t.records[0].Position] }

// evict forgets the oldest records until at most limit bytes are left.
func (t *tail) evict(limit int) {
	n := 0
	for ; n < len(t.records) && t.bytes > int64(limit); n++ {
		t.bytes -= t.sizes[n]
		t.records[n] = nil
	}
	if n == 0 {
		return
	}
	t.records, t.sizes = t.records[n:], t.sizes[n:]
	if cap(t.records) > 4*len(t.records)+1024 {
		t.records, t.sizes = append([]*Record(nil), t.records...), append([]int64(nil), t.sizes...)
	}
}
