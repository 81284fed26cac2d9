package peers

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge"
)

// certVariable and keyVariable name the files of a child that serves TLS.
const (
	certVariable = "PUSHD_PEERS_CERT"
	keyVariable  = "PUSHD_PEERS_KEY"
)

// centrifugeLibrary is a server made of centrifuge: JSON, no history unless the
// topic is kept, published to in the process, which is its cheapest way.
func centrifugeLibrary(env ...string) peer {
	return peer{name: "centrifuge", words: "a Go program of centrifuge v0.40.1, JSON; published in its process, kept nowhere (in memory for those that come back)", start: func(b *testing.B) *server {
		p, addrs := startChild(b, "centrifuge", env...)
		return &server{
			process: p, name: "centrifuge", addr: addrs.Clients, kinds: []kind{sse},
			open:    openCentrifuge,
			hello:   centrifugeHello,
			welcome: map[kind]string{webSocket: `"subscribe":`, sse: `"connect":`},
			where: func(topic int) (string, error) {
				body, _, err := get("http://"+addrs.Clients+"/where?topic="+topicName(topic), "*/*")
				return string(body), err
			},
			publish: lines(addrs.Publish),
		}
	}}
}

// openCentrifuge is a request of a reader. SSE's carries its connect command,
// whose data names the topic that the server subscribes it to.
func openCentrifuge(k kind, topic int, _ string) []byte {
	if k == webSocket {
		return upgrade("/ws", "")
	}
	connect := fmt.Sprintf(`{"id":1,"connect":{"data":{"topic":%q}}}`, topicName(topic))
	return []byte("GET /sse?cf_connect=" + url.QueryEscape(connect) + " HTTP/1.1\r\nHost: x\r\n\r\n")
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
	node, err := newCentrifuge()
	if err != nil {
		return childAddrs{}, err
	}
	noPings := centrifuge.PingPongConfig{PingInterval: -1}
	mux := http.NewServeMux()
	mux.Handle("/ws", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		UseWriteBufferPool: true, ReadBufferSize: 512, WriteTimeout: time.Minute, PingPongConfig: noPings,
	}))
	mux.Handle("/sse", centrifuge.NewSSEHandler(node, centrifuge.SSEConfig{PingPongConfig: noPings}))
	mux.HandleFunc("/where", func(w http.ResponseWriter, r *http.Request) {
		end, err := node.History(r.FormValue("topic"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintf(w, "%d,%s", end.Offset, end.Epoch)
	})
	clients, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return childAddrs{}, err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	if cert := os.Getenv(certVariable); cert != "" {
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // no HTTP/2
		go func() { _ = server.ServeTLS(clients, cert, os.Getenv(keyVariable)) }()
	} else {
		go func() { _ = server.Serve(clients) }()
	}
	publish, err := serveLines(func(topic, event string) {
		var kept []centrifuge.PublishOption
		if topic == topicName(keptTopic) {
			kept = append(kept, centrifuge.WithHistory(1000, time.Hour))
		}
		_, _ = node.Publish(topic, []byte(event), kept...)
	})
	return childAddrs{Clients: clients.Addr().String(), Publish: publish}, err
}

func newCentrifuge() (*centrifuge.Node, error) {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		reply := centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "u"}}
		var data struct{ Topic string }
		if json.Unmarshal(e.Data, &data) == nil && data.Topic != "" {
			reply.Subscriptions = map[string]centrifuge.SubscribeOptions{data.Topic: {}}
		}
		return reply, nil
	})
	node.OnConnect(func(c *centrifuge.Client) {
		c.OnSubscribe(func(e centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			kept := e.Channel == topicName(keptTopic)
			done(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{EnableRecovery: kept}}, nil)
		})
	})
	return node, node.Run()
}
