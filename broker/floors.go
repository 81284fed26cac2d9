package broker

import "sync"

// floors are positions that readers at this node must not stay below: what it
// has acknowledged itself.
type floors struct {
	mu sync.Mutex // guards at
	at map[uint16]uint64
}

func (f *floors) raise(partition uint16, position uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[uint16]uint64{}
	}
	f.at[partition] = max(f.at[partition], position)
}

func (f *floors) get(partition uint16) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at[partition]
}

// of is the position that a lane must not be told to be the end before.
func (f *floors) of(l *lane) uint64 { return max(l.position, f.get(l.partition)) }
