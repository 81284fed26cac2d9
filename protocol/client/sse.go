package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pushd/pushd/protocol"
)

var errLongLine = errors.New("a line of the event stream is too long")

// block is one block of an event stream.
type block struct {
	id, event string
	data      []byte
}

// eventStream reads an event stream (HTML Living Standard, 9.2.6).
type eventStream struct {
	body   io.ReadCloser
	lines  *bufio.Reader
	cancel context.CancelFunc
	dead   *time.Timer
	token  string // that it was opened with
	tokens *tokens
	failed error // behind what the last batch gave
}

func (s *Subscription) openSSE(ctx context.Context, server string) (source, error) {
	v := s.query()
	v.Set("envelope", "1")
	// The stream outlives the ctx of the Next that opened it.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, cancel)()
	dead := time.AfterFunc(answerTimeout, cancel)
	resp, token, err := s.client.once(running, server, request{
		method: http.MethodGet, path: "/v1/events?" + v.Encode(), header: http.Header{"Accept": {"text/event-stream"}},
	})
	if err == nil {
		err = streamError(resp)
	}
	if err != nil {
		dead.Stop()
		cancel()
		return nil, err
	}
	dead.Reset(sseSilence)
	return &eventStream{body: resp.Body, lines: bufio.NewReaderSize(resp.Body, readBuffer), cancel: cancel, dead: dead, token: token, tokens: &s.client.tokens}, nil
}

// streamError says why an answer is no event stream; nil if it is one. Another
// content type ends a reader for good, as it ends a browser's EventSource.
func streamError(resp *http.Response) error {
	kind := resp.Header.Get("Content-Type")
	switch {
	case resp.StatusCode == http.StatusNoContent:
		return ErrEnded
	case resp.StatusCode != http.StatusOK:
		return problem(resp)
	case !strings.HasPrefix(kind, "text/event-stream"):
		return &strangeAnswer{resp.StatusCode, fmt.Sprintf("the server answered with %q, not with an event stream; is it pushd?", kind)}
	}
	return nil
}

func (e *eventStream) close() {
	e.dead.Stop()
	e.cancel()
	_ = e.body.Close()
}

// next gives all events of the blocks that have arrived, at least one block.
func (e *eventStream) next(ctx context.Context) (batch, error) {
	defer context.AfterFunc(ctx, e.cancel)()
	var all batch
	for e.failed == nil {
		blk, err := readBlock(e.lines)
		var b batch
		if err == nil {
			e.dead.Reset(sseSilence)
			b, err = blk.batch()
			if blk.event == protocol.SSEToken {
				e.tokens.drop(e.token) // the next connection has another one
			}
		}
		e.failed = err
		all.add(b)
		if !e.whole() {
			break
		}
	}
	if len(all.deliveries) > 0 {
		return all, nil
	}
	return all, e.failed
}

// whole says whether a further block is at hand, so that reading it won't wait.
func (e *eventStream) whole() bool {
	b, _ := e.lines.Peek(e.lines.Buffered())
	return bytes.Contains(b, []byte("\n\n"))
}

// batch is what a block means to the reader.
func (blk block) batch() (b batch, err error) {
	b.cursor = blk.id
	switch {
	case blk.event == "pushd.gap":
		g := &protocol.Gap{}
		if err := json.Unmarshal(blk.data, g); err != nil {
			return b, fmt.Errorf("read a gap: %w", err)
		}
		b.deliveries = []Delivery{{Gap: g}}
	case blk.event == protocol.SSEPresence:
		return presenceBatch(blk.data)
	case blk.event == "pushd.drain":
		var d protocol.Drain
		if err := json.Unmarshal(blk.data, &d); err != nil {
			return b, fmt.Errorf("read a drain: %w", err)
		}
		return b, moveAfter(d)
	case blk.event == "pushd.error":
		var p protocol.Problem
		if err := json.Unmarshal(blk.data, &p); err != nil {
			return b, fmt.Errorf("read an error: %w", err)
		}
		return b, p.Err()
	case strings.HasPrefix(blk.event, "pushd.") && blk.event != "pushd.envelope", blk.data == nil:
		return b, nil
	default:
		v := &protocol.Envelope{}
		if err := json.Unmarshal(blk.data, v); err != nil {
			return b, fmt.Errorf("read an event: %w", err)
		}
		b.deliveries = []Delivery{{Event: v}}
	}
	return b, nil
}

// readBlock reads up to the next empty line.
func readBlock(r *bufio.Reader) (blk block, err error) {
	for {
		line, err := readLine(r)
		if err != nil {
			return blk, err
		}
		if len(line) == 0 {
			return blk, nil
		}
		field, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(field) {
		case "id":
			blk.id = string(value)
		case "event":
			blk.event = string(value)
		case "data":
			if blk.data != nil {
				blk.data = append(blk.data, '\n')
			}
			blk.data = append(blk.data, value...)
			if blk.data == nil {
				blk.data = []byte{}
			}
			if len(blk.data) > maxSSELine {
				return blk, errLongLine
			}
		}
	}
}

// readLine reads a line without its end, which pushd writes as LF; a CR before
// it is an end's, too.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if len(line) > maxSSELine {
				return nil, errLongLine
			}
			continue
		case err != nil:
			return nil, err
		}
		return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'}), nil
	}
}
