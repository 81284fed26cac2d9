package client

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/pushd/pushd/protocol"
)

// snapshotTopics is everything that can be read: also what the system records.
var snapshotTopics = []string{"**", "$webhook.**", "$presence.**"}

// SaveSnapshot writes the cluster's retained events and policies to w: at least
// every event that was acknowledged before the call and is retained still.
// Publishing may go on. It returns how many events it wrote.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer) (events uint64, err error) {
	head, err := c.snapshotHead(ctx)
	if err != nil {
		return 0, err
	}
	missing, err := c.lastOffsets(ctx)
	if err != nil {
		return 0, err
	}
	b, err := protocol.AppendSnapshotHead(nil, head)
	if err != nil {
		return 0, err
	}
	for after, upToDate := "earliest", false; !upToDate && len(missing) > 0; {
		page, err := c.snapshotPage(ctx, after)
		if err != nil {
			return events, err
		}
		for i := range page.Events {
			e, err := page.Events[i].Event()
			if err != nil {
				return events, fmt.Errorf("event %d of %s: %w", page.Events[i].Offset, page.Events[i].Topic, err)
			}
			e.ContentType = page.Events[i].ContentType
			missing.pass(e.Topic, e.Epoch, e.Offset)
			b = protocol.AppendSnapshotEvent(b, &e)
		}
		for _, g := range page.Gaps {
			missing.pass(g.Topic, g.Epoch, g.To)
		}
		events += uint64(len(page.Events))
		if _, err := w.Write(b); err != nil {
			return events, err
		}
		b, after, upToDate = b[:0], page.Cursor, page.UpToDate
	}
	_, err = w.Write(protocol.AppendSnapshotEnd(b, events))
	return events, err
}

// lasts are topics' last offsets that have not been read yet. A snapshot ends by
// them and not by time: clocks differ.
type lasts map[string]protocol.TopicInfo

// pass notes what was read of a topic, or is gone. Beyond its last event, or in
// a later epoch, nothing is missing any more.
func (l lasts) pass(topic string, epoch, offset uint64) {
	t, ok := l[topic]
	if ok && (epoch > t.Epoch || epoch == t.Epoch && offset >= t.LastOffset) {
		delete(l, topic)
	}
}

// lastOffsets lists the topics that have events.
func (c *Client) lastOffsets(ctx context.Context) (lasts, error) {
	all := lasts{}
	for after := ""; ; {
		list, err := c.Topics(ctx, "", after, protocol.MaxPageEvents)
		if err != nil {
			return nil, err
		}
		for _, t := range list.Topics {
			if t.Events > 0 && !protocol.SystemTopic(t.Topic) {
				all[t.Topic] = t
			}
		}
		if after = list.Next; after == "" {
			return all, nil
		}
	}
}

func (c *Client) snapshotHead(ctx context.Context) (*protocol.SnapshotHead, error) {
	cluster, err := c.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	policies, err := c.Policies(ctx)
	if err != nil {
		return nil, err
	}
	return &protocol.SnapshotHead{ClusterID: cluster.ClusterID, Taken: time.Now().UTC(), Partitions: len(cluster.Partitions), Policies: policies.Policies}, nil
}

func (c *Client) snapshotPage(ctx context.Context, after string) (page protocol.Page, err error) {
	q := url.Values{"topic": snapshotTopics, "after": {after}, "limit": {strconv.Itoa(protocol.MaxPageEvents)}}
	ctx, cancel := context.WithTimeout(ctx, c.maxWait)
	defer cancel()
	body, err := c.do(ctx, request{method: http.MethodGet, path: "/v1/events?" + q.Encode()})
	if err != nil {
		return page, err
	}
	return page, parse(body, &page)
}

// ReadSnapshot reads a snapshot, checks it, and calls part with each of its
// frames. An event's data is good only during the call.
func ReadSnapshot(r io.Reader, part func(protocol.SnapshotPart) error) error {
	in := bufio.NewReaderSize(r, 1<<20)
	preamble := make([]byte, 12)
	if _, err := io.ReadFull(in, preamble); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := protocol.SnapshotPreamble(preamble); err != nil {
		return err
	}
	var frame []byte
	for events := uint64(0); ; {
		p, err := readFrame(in, &frame)
		if err != nil {
			return err
		}
		if p.Event != nil {
			events++
		}
		if p.End != nil && p.End.Events != events {
			return fmt.Errorf("%w: it has %d events and says %d", protocol.ErrSnapshot, events, p.End.Events)
		}
		if err := part(p); err != nil || p.End != nil {
			return err
		}
	}
}

func readFrame(in io.Reader, frame *[]byte) (p protocol.SnapshotPart, err error) {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return p, cutShort(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > protocol.MaxSnapshotFrame {
		return p, fmt.Errorf("%w: a frame of %d bytes", protocol.ErrSnapshot, size)
	}
	b := append((*frame)[:0], head[:]...)
	b = append(b, make([]byte, size)...)
	*frame = b
	if _, err := io.ReadFull(in, b[8:]); err != nil {
		return p, cutShort(err)
	}
	p, _, err = protocol.NextSnapshotPart(b)
	return p, err
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", protocol.ErrSnapshot)
	}
	return err
}

// RestoreSnapshot gives a cluster the events and policies of a snapshot, with
// their offsets, ids and times, each topic as a new epoch. A topic that is there
// already is refused, and with it the rest. A restore that failed may be begun
// again: it goes on where it was.
func (c *Client) RestoreSnapshot(ctx context.Context, r io.Reader) (total protocol.RestoreResult, err error) {
	part := restore{client: c}
	err = ReadSnapshot(r, func(p protocol.SnapshotPart) error {
		switch {
		case p.Head != nil:
			part.id = restoreID(p.Head)
			return c.restorePolicies(ctx, p.Head.Policies)
		case p.Event != nil:
			return part.add(ctx, p.Event)
		}
		return part.send(ctx)
	})
	return part.total, err
}

func (c *Client) restorePolicies(ctx context.Context, list []protocol.Policy) error {
	for _, p := range list {
		if _, err := c.PutPolicy(ctx, p); err != nil {
			return fmt.Errorf("policy %s: %w", p.Pattern, err)
		}
	}
	return nil
}

// restoreID is the number of all restores of one snapshot, so that one that
// failed can be begun again.
func restoreID(h *protocol.SnapshotHead) uint64 {
	sum := sha256.Sum256([]byte(h.ClusterID + h.Taken.Format(time.RFC3339Nano)))
	return binary.LittleEndian.Uint64(sum[:]) | 1
}

// restore is a snapshot on its way.
type restore struct {
	client *Client
	id     uint64
	events int
	body   []byte
	total  protocol.RestoreResult
}

func (r *restore) add(ctx context.Context, e *protocol.Event) error {
	r.body = protocol.AppendSnapshotEvent(r.body, e)
	if r.events++; r.events < protocol.MaxBatchEvents && len(r.body) < 1<<20 {
		return nil
	}
	return r.send(ctx)
}

func (r *restore) send(ctx context.Context) error {
	if r.events == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.client.maxWait)
	defer cancel()
	body, err := r.client.do(ctx, request{method: http.MethodPost, path: "/v1/cluster/restore?id=" + strconv.FormatUint(r.id, 10), body: r.body})
	if err != nil {
		return err
	}
	var result protocol.RestoreResult
	if err := parse(body, &result); err != nil {
		return err
	}
	r.total.Restored += result.Restored
	r.total.Known += result.Known
	r.events, r.body = 0, r.body[:0]
	return nil
}
