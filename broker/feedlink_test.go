package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// playLink reaches the nodes as the peer link does: a node may be down, and
// streams may be slow.
type playLink struct {
	nodes map[string]*Broker

	mu   sync.Mutex // guards what follows
	down map[string]context.CancelFunc
	up   map[string]context.Context
	gate chan struct{} // closed while frames arrive
	sent int           // records that came over streams
}

var errBroken = errors.New("connection reset")

func (k *playLink) reach(node string) (*Broker, context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nodes[node], k.up[node]
}

func (k *playLink) Call(ctx context.Context, node string, method uint8, req []byte) ([]byte, error) {
	to, up := k.reach(node)
	if to == nil || up.Err() != nil {
		return nil, ErrUnreachable
	}
	answer, err := to.ServeCall(ctx, "edge", method, req)
	if up.Err() != nil {
		return nil, errBroken
	}
	return answer, err
}

func (k *playLink) Broadcast(uint8, []byte) {}

func (k *playLink) Stream(ctx context.Context, node string, method uint8, req []byte, recv func([]byte) error) error {
	to, up := k.reach(node)
	if to == nil || up.Err() != nil {
		return ErrUnreachable
	}
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(up, cancel)()
	frames, ended := make(chan []byte, 2), make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		ended <- to.ServeStream(ctx, "edge", method, req, func(frame []byte) error {
			select {
			case frames <- slices.Clone(frame):
				return nil
			case <-ctx.Done():
				return errBroken
			}
		})
		close(frames)
	})
	for frame := range frames {
		k.mu.Lock()
		gate := k.gate
		k.mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
			return errBroken
		}
		if f, err := decodeFeedFrame(frame); err == nil {
			k.mu.Lock()
			k.sent += len(f.records)
			k.mu.Unlock()
		}
		if err := recv(frame); err != nil {
			return err
		}
	}
	return <-ended
}

// slow lets frames wait, or flow again.
func (k *playLink) slow(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.gate:
		if on {
			k.gate = make(chan struct{})
		}
	default:
		if !on {
			close(k.gate)
		}
	}
}

func (k *playLink) set(node string, up bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !up {
		k.down[node]()
	} else if k.up[node].Err() != nil {
		k.up[node], k.down[node] = context.WithCancel(context.Background())
	}
}

// records is how many came over streams.
func (k *playLink) records() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sent
}
