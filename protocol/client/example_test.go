package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

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
