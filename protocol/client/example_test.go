package client_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// recorded answers as a pushd with two events in the topic orders.eu would.
func recorded(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"topic":"orders.eu","offset":3,"id":"order-9"}`)
	case r.URL.Query().Get("after") == "earliest":
		_, _ = io.WriteString(w, `{"events":[
			{"topic":"orders.eu","offset":1,"data":"one coffee","cursor":"c1"},
			{"topic":"orders.eu","offset":2,"data":"two teas","cursor":"c2"}],"cursor":"c2","up_to_date":true}`)
	default:
		_, _ = io.WriteString(w, `{"events":[],"cursor":"c2","up_to_date":true}`)
	}
}

func ExampleClient_Publish() {
	server := httptest.NewServer(http.HandlerFunc(recorded)) // yours is http://127.0.0.1:7340
	defer server.Close()
	c, err := client.New(client.Options{Servers: []string{server.URL}})
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	stored, err := c.Publish(context.Background(), client.Message{Topic: "orders.eu", ID: "order-9", Data: []byte("a cake")})
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(stored.ID, "is event", stored.Offset, "of", stored.Topic)
	// Output: order-9 is event 3 of orders.eu
}

func ExampleClient_Subscribe() {
	server := httptest.NewServer(http.HandlerFunc(recorded))
	defer server.Close()
	c, err := client.New(client.Options{Servers: []string{server.URL}})
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	s, err := c.Subscribe(client.SubscribeOptions{Topics: []string{"orders.*"}, After: "earliest", Via: client.LongPoll})
	if err != nil {
		log.Print(err)
		return
	}
	defer s.Close()
	for range 2 {
		d, err := s.Next(context.Background())
		if err != nil {
			log.Print(err)
			return
		}
		if d.Gap != nil {
			fmt.Println("events", d.Gap.From, "to", d.Gap.To, "are gone")
			continue
		}
		fmt.Println(d.Event.Offset, string(d.Event.Data))
	}
	fmt.Println("go on behind", s.Cursor())
	// Output:
	// 1 "one coffee"
	// 2 "two teas"
	// go on behind c2
}

// stream answers POST /v1/events as a pushd would.
func stream() *httptest.Server {
	offset := 0
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var results []string
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			offset++
			results = append(results, fmt.Sprintf(`{"topic":"readings","offset":%d}`, offset))
		}
		_, _ = fmt.Fprintf(w, `{"results":[%s]}`, strings.Join(results, ","))
	}))
}

func ExampleClient_Writer() {
	server := stream()
	defer server.Close()
	c, err := client.New(client.Options{Servers: []string{server.URL}})
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	w := c.Writer(func(stored protocol.PublishResult) { fmt.Println("stored at", stored.Offset) })
	defer w.Close()
	ctx := context.Background()
	for i := range 3 {
		if err := w.Write(ctx, client.Message{Topic: "readings", Data: fmt.Append(nil, 20+i)}); err != nil {
			log.Print(err)
			return
		}
	}
	if err := w.Flush(ctx); err != nil { // now all three are on the disks of a quorum
		log.Print(err)
	}
	// Output:
	// stored at 1
	// stored at 2
	// stored at 3
}

func ExampleClient_PublishAll() {
	server := stream()
	defer server.Close()
	c, err := client.New(client.Options{Servers: []string{server.URL}})
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	stored, err := c.PublishAll(context.Background(), []client.Message{
		{Topic: "readings", Data: []byte("20")},
		{Topic: "readings", Data: []byte("21")},
	})
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(len(stored), "stored, the last at", stored[1].Offset)
	// Output: 2 stored, the last at 2
}

// sockets answers publishes over WebSockets as a pushd would.
func sockets(w http.ResponseWriter, r *http.Request) {
	u := ws.HTTPUpgrader{Protocol: func(p string) bool { return p == protocol.SubprotocolJSON }}
	conn, _, _, err := u.Upgrade(r, w)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	for {
		frame, err := wsutil.ReadClientText(conn)
		if err != nil {
			return
		}
		for line := range bytes.SplitSeq(frame, []byte{'\n'}) {
			var c protocol.Command
			if json.Unmarshal(line, &c) == nil && c.Publish != nil {
				_ = wsutil.WriteServerText(conn, fmt.Appendf(nil, `{"id":%d,"published":{"topic":%q,"offset":1}}`, *c.ID, c.Publish.Topic))
			}
		}
	}
}

func ExampleClient_Publisher() {
	server := httptest.NewServer(http.HandlerFunc(sockets))
	defer server.Close()
	c, err := client.New(client.Options{Servers: []string{server.URL}})
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	p := c.Publisher()
	defer p.Close()
	var stored atomic.Int64
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			m := client.Message{Topic: fmt.Sprint("users.", i), Data: []byte("hello")}
			if _, err := p.Publish(context.Background(), m); err != nil {
				log.Print(err)
				return
			}
			stored.Add(1)
		})
	}
	wg.Wait()
	fmt.Println(stored.Load(), "stored")
	// Output: 100 stored
}
