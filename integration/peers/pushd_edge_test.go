package peers

import (
	"fmt"
	"net/url"
	"testing"
)

// pushdNode is a pushd as anybody would run it: one node, every event stored and
// synced before its readers get it. protocol is the WebSockets', empty for
// plain ones, which carry payloads as Nchan's do. With more flags it serves TLS.
func pushdNode(name, protocol string, more ...string) peer {
	words := "one node, plain WebSockets; published by a WebSocket of pushd.v1.json, on disk (fsync) before anybody gets it, but where the row says `ack: none`"
	if protocol != "" {
		words = "the same, its WebSockets " + protocol
	}
	return peer{name: name, words: words, start: func(b *testing.B) *server {
		addr := freeAddr(b)
		args := []string{
			"agent", "--node-name", "n1", "--data-dir", b.TempDir(), "--log-level", "error",
			"--client-addr", addr, "--peer-addr", freeAddr(b), "--gossip-addr", freeAddr(b),
		}
		p := startPinned(b, nil, pushdBinary, append(args, more...)...)
		scheme := "http://"
		if len(more) > 0 {
			scheme = "https://"
		}
		wait(b, "pushd", func() error { return getJSON(scheme+addr+"/readyz", nil) })
		var kinds []kind
		if protocol == "" {
			kinds = []kind{sse, longPoll, shortPoll}
		}
		return &server{
			process: p, name: name, addr: addr, kinds: kinds,
			open: func(k kind, topic int, after string) []byte {
				target := "/v1/events?topic=" + topicName(topic)
				if after != "" {
					target += "&after=" + url.QueryEscape(after)
				}
				switch k {
				case sse:
					return []byte("GET " + target + " HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
				case longPoll:
					return []byte("GET " + target + "&wait=60s HTTP/1.1\r\nHost: x\r\n\r\n")
				case shortPoll:
					return []byte("GET " + target + " HTTP/1.1\r\nHost: x\r\nIf-None-Match: W/\"" + after + "\"\r\n\r\n")
				}
				return upgrade(target, protocol)
			},
			place: func(head []byte) string { return string(field(head, "Pushd-Cursor: ")) },
			where: func(topic int) (string, error) {
				_, head, err := get("http://"+addr+"/v1/events?after=-1&topic="+topicName(topic), "*/*")
				return head.Get("Pushd-Cursor"), err
			},
			publish: pushdPublishing(addr, ""),
			unkept:  pushdPublishing(addr, `,"ack":"none"`),
		}
	}}
}

// pushdPublishing is by frames of pushd.v1.json with a command for each event.
func pushdPublishing(addr, more string) publishing {
	return publishing{
		addr: addr, open: upgrade("/v1/events", "pushd.v1.json"), opened: headEnd, refused: `"error":`,
		appendAll: func(dst []byte, topics []int, events [][]byte) []byte {
			var commands []byte
			for i, e := range events {
				commands = fmt.Appendf(commands, "{\"id\":1,\"publish\":{\"topic\":%q%s,\"data\":%s}}\n", topicName(topics[i]), more, e)
			}
			return appendFrame(dst, opText, commands[:len(commands)-1])
		},
	}
}
