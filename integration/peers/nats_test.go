package peers

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// natsCore is nats-server with WebSockets and without JetStream: nothing is
// stored.
func natsCore() peer {
	return peer{name: "NATS", words: "nats-server v2.15.2, WebSocket; published over TCP without an answer, kept nowhere", start: func(b *testing.B) *server {
		p, addrs := startChild(b, "nats")
		return &server{
			process: p, name: "NATS", addr: addrs.Clients,
			open: func(kind, int, string) []byte { return upgrade("/", "") },
			hello: func(topic int, _ string) []byte {
				commands := fmt.Sprintf("CONNECT {\"verbose\":false}\r\nSUB %s 1\r\nPING\r\n", topicName(topic))
				return appendFrame(nil, opText+1, []byte(commands))
			},
			welcome: map[kind]string{webSocket: "PONG"},
			publish: publishing{
				addr: addrs.Publish, open: []byte("CONNECT {\"verbose\":false}\r\nPING\r\n"), opened: "PONG", refused: "-ERR",
				appendAll: func(dst []byte, topics []int, events [][]byte) []byte {
					for i, e := range events {
						dst = append(append(dst, "PUB "...), topicName(topics[i])...)
						dst = append(strconv.AppendInt(append(dst, ' '), int64(len(e)), 10), "\r\n"...)
						dst = append(append(dst, e...), "\r\n"...)
					}
					return dst
				},
			},
		}
	}}
}

func serveNATS() (childAddrs, error) {
	o := &natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true, PingInterval: time.Hour, WriteDeadline: time.Minute,
		Websocket: natsserver.WebsocketOpts{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoTLS: true},
	}
	s, err := natsserver.NewServer(o)
	if err != nil {
		return childAddrs{}, err
	}
	go s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return childAddrs{}, errors.New("nats-server does not accept connections")
	}
	return childAddrs{Clients: strings.TrimPrefix(s.WebsocketURL(), "ws://"), Publish: s.Addr().String()}, nil
}
