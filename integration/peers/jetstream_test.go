package peers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// jetStreamVariable holds a jetStreamNode for a process that is to be one.
const jetStreamVariable = "PUSHD_PEERS_JETSTREAM"

// jetStreamNode is what one server of the cluster is told.
type jetStreamNode struct {
	Name, Dir       string
	Client, Cluster string // addresses
	Routes          []string
	SyncAlways      bool
}

// serveJetStream runs one server until its standard input ends, which it does
// with the process that started it.
func serveJetStream(config string) int {
	var c jetStreamNode
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := &natsserver.Options{ServerName: c.Name, JetStream: true, StoreDir: c.Dir, NoSigs: true, NoLog: true, SyncAlways: c.SyncAlways}
	o.LameDuckDuration, o.LameDuckGracePeriod = time.Second, 100*time.Millisecond // clients are not what a planned stop is measured by
	o.Host, o.Port = hostPort(c.Client)
	o.Cluster.Name = "peers"
	o.Cluster.Host, o.Cluster.Port = hostPort(c.Cluster)
	for _, r := range c.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: r})
	}
	s, err := natsserver.NewServer(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go s.Start()
	if lines := bufio.NewScanner(os.Stdin); lines.Scan() && lines.Text() == lameDuck {
		s.LameDuckShutdown()
	}
	s.Shutdown()
	return 0
}

// lameDuck is the line upon which a server hands its leaders over and stops.
const lameDuck = "lame duck"

func hostPort(addr string) (string, int) {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return host, n
}

// startJetStream runs three servers with streams of three replicas on files,
// each with its part of the topics.
func startJetStream(b *testing.B, name string, always bool, streams int) *system {
	b.Helper()
	nodes := make([]jetStreamNode, 3)
	var routes []string
	for i := range nodes {
		nodes[i] = jetStreamNode{Name: fmt.Sprint("n", i+1), Dir: b.TempDir(), Client: freeAddr(b), Cluster: freeAddr(b), SyncAlways: always}
		routes = append(routes, nodes[i].Cluster)
	}
	s := &system{name: name}
	for i := range nodes {
		nodes[i].Routes = routes
		config, err := json.Marshal(nodes[i])
		if err != nil {
			b.Fatal(err)
		}
		s.processes = append(s.processes, startProcess(b, []string{jetStreamVariable + "=" + string(config)}, os.Args[0]))
	}
	var clients []jetstream.JetStream
	for _, n := range nodes {
		clients = append(clients, connectJetStream(b, n.Client))
	}
	for i := range streams {
		config := jetstream.StreamConfig{Name: fmt.Sprint("S", i), Subjects: []string{fmt.Sprintf("bench.%d.>", i)}, Replicas: 3, Storage: jetstream.FileStorage}
		wait(b, "stream "+config.Name, func() error {
			_, err := clients[0].CreateOrUpdateStream(b.Context(), config)
			return err
		})
	}
	s.publish = func(n int) error {
		m := &nats.Msg{Subject: fmt.Sprintf("bench.%d.%d", n%streams, n%topics), Data: payload}
		f, err := clients[n%len(clients)].PublishMsgAsync(m)
		if err != nil {
			return err
		}
		select {
		case <-f.Ok():
			return nil
		case err := <-f.Err():
			return err
		}
	}
	return s
}

func connectJetStream(b *testing.B, addr string, more ...nats.Option) jetstream.JetStream {
	b.Helper()
	var conn *nats.Conn
	wait(b, "a JetStream server", func() (err error) {
		conn, err = nats.Connect("nats://"+addr, append(more, nats.Timeout(2*time.Second))...)
		return err
	})
	b.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	return js
}
