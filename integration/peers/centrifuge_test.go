package peers

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge"
)

// centrifugeLibrary is a server made of centrifuge: JSON, no history unless the
// topic is kept, published to in the process, which is its cheapest way.
func centrifugeLibrary() peer {
	return peer{name: "centrifuge", start: func(b *testing.B) *server {
		p, addrs := startChild(b, "centrifuge")
		return &server{
			process: p, name: "centrifuge", addr: addrs.Clients,
			open:    func(kind, int, string) []byte { return upgrade("/ws", "") },
			hello:   centrifugeHello,
			welcome: `"subscribe":`,
			publish: lines(addrs.Publish),
		}
	}}
}

func centrifugeHello(topic int, after string) []byte {
	from := ""
	if offset, epoch, ok := strings.Cut(after, ","); ok {
		from = fmt.Sprintf(`,"recover":true,"offset":%s,"epoch":%q`, offset, epoch)
	}
	commands := fmt.Sprintf("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":%q%s}}", topicName(topic), from)
	return appendFrame(nil, opText, []byte(commands))
}

func serveCentrifuge() (childAddrs, error) {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone})
	if err != nil {
		return childAddrs{}, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "u"}}, nil
	})
	node.OnConnect(func(c *centrifuge.Client) {
		c.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return childAddrs{}, err
	}
	noPings := centrifuge.PingPongConfig{PingInterval: -1}
	mux := http.NewServeMux()
	mux.Handle("/ws", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		UseWriteBufferPool: true, ReadBufferSize: 512, WriteTimeout: time.Minute, PingPongConfig: noPings,
	}))
	clients, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return childAddrs{}, err
	}
	go func() { _ = (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(clients) }()
	publish, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return childAddrs{}, err
	}
	go func() {
		for {
			conn, err := publish.Accept()
			if err != nil {
				return
			}
			go readLines(conn, func(topic, event string) { _, _ = node.Publish(topic, []byte(event)) })
		}
	}()
	return childAddrs{Clients: clients.Addr().String(), Publish: publish.Addr().String()}, nil
}
