package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/protocol"
)

func TestAnUnknownRouteSaysWhereEventsAre(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/v1/nothing", "/v2", "/v1/topics/a/b/c", "/v1/topics/", "/metric", "/v1//events"} {
		if a := s.get(path).wantProblem(protocol.NoSuchRoute); !strings.Contains(a.Body, "/v1/topics/{topic}/events") {
			t.Errorf("GET %s: got %s, want a hint", path, a.Body)
		}
	}
}

func TestAWrongMethodIsToldTheRightOnes(t *testing.T) {
	s := newSite(t)
	s.do(http.MethodPut, "/v1/topics/a/events", "x").wantProblem(protocol.MethodNotAllowed).wantHeader("Allow", "GET, HEAD, OPTIONS, POST")
	s.do(http.MethodPost, "/v1/cluster", "x").wantProblem(protocol.MethodNotAllowed).wantHeader("Allow", "GET, HEAD, OPTIONS")
}

func TestTopicsAreListedDescribedAndDeleted(t *testing.T) {
	s := newSite(t)
	for _, topic := range []string{"a.1", "a.2", "a.3", "b"} {
		s.publishText(topic, "x")
	}
	var list protocol.TopicList
	s.get("/v1/topics?prefix=a.&limit=2").want(200).into(&list)
	if len(list.Topics) != 2 || list.Topics[0].Topic != "a.1" || list.Next == "" {
		t.Errorf("got %+v, want a.1, a.2 and next", list)
	}
	var rest protocol.TopicList
	s.get("/v1/topics?prefix=a.&after=" + list.Next).want(200).into(&rest)
	if len(rest.Topics) != 1 || rest.Topics[0].Topic != "a.3" || rest.Next != "" {
		t.Errorf("got %+v, want a.3", rest)
	}
	if a := s.get("/v1/topics?prefix=none"); !strings.HasPrefix(a.Body, `{"topics":[]`) {
		t.Errorf("got %s, want an empty list", a.Body)
	}
	var info protocol.TopicInfo
	s.get("/v1/topics/b").want(200).into(&info)
	if info.LastOffset != 1 || info.Events != 1 {
		t.Errorf("got %+v, want one event", info)
	}
	s.do(http.MethodDelete, "/v1/topics/b", "").want(204)
	s.get("/v1/topics/b").wantProblem(protocol.NoSuchTopic)
	s.get("/v1/topics/b..").wantProblem(protocol.BadTopic)
	s.do(http.MethodDelete, "/v1/topics/$x", "").wantProblem(protocol.Forbidden)
}

// memoryPolicies keeps policies in a map.
type memoryPolicies map[string]protocol.Policy

func (m memoryPolicies) List(context.Context) (list []protocol.Policy, _ error) {
	for _, p := range m {
		list = append(list, p)
	}
	return list, nil
}

func (m memoryPolicies) Get(_ context.Context, pattern string) (protocol.Policy, error) {
	p, ok := m[pattern]
	if !ok {
		return p, protocol.NoSuchPolicy.Errorf("there is none")
	}
	return p, nil
}

func (m memoryPolicies) Put(_ context.Context, p protocol.Policy) error {
	m[p.Pattern] = p
	return nil
}

func (m memoryPolicies) Delete(_ context.Context, pattern string) error {
	delete(m, pattern)
	return nil
}

func TestPoliciesArePutReadAndDeleted(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Policies = memoryPolicies{} })
	at := "/v1/policies/orders.**"
	s.get(at).wantProblem(protocol.NoSuchPolicy)
	s.do(http.MethodPut, at, `{"max_age":"24h","max_events":10}`).want(200)
	var list protocol.PolicyList
	s.get("/v1/policies").want(200).into(&list)
	if len(list.Policies) != 1 || list.Policies[0] != (protocol.Policy{Pattern: "orders.**", MaxAge: "24h", MaxEvents: 10}) {
		t.Errorf("got %+v, want the policy", list)
	}
	for _, bad := range []string{`{"max_age":"1 day"}`, `{"max_age":"-1s"}`, `{"presence":"maybe"}`, `{"pattern":"b"}`} {
		s.do(http.MethodPut, at, bad).wantProblem(protocol.BadRequest)
	}
	s.do(http.MethodPut, at, `{"max_evnts":1}`).wantProblem(protocol.BadJSON)
	s.do(http.MethodPut, "/v1/policies/a..b", `{}`).wantProblem(protocol.BadTopic)
	s.do(http.MethodDelete, at, "").want(204)
	s.get(at).wantProblem(protocol.NoSuchPolicy)
}

// oneNode is a cluster and a health of its own.
type oneNode struct{ err error }

func (oneNode) Status(context.Context) protocol.ClusterStatus {
	return protocol.ClusterStatus{ClusterID: "c1", Nodes: []protocol.NodeStatus{{Name: "n1", State: "alive"}}}
}
func (n oneNode) Ready() error { return n.err }

func (oneNode) Change(_ context.Context, c protocol.ClusterChange) (protocol.ClusterChanged, error) {
	if c.Node == "n9" {
		return protocol.ClusterChanged{}, protocol.NoSuchNode.Errorf("there is no node n9")
	}
	return protocol.ClusterChanged{Detail: fmt.Sprintf("%+v", c)}, nil
}

func TestChangesOfTheClusterAreReadFromPathAndBody(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Cluster = oneNode{} })
	for _, c := range []struct{ path, body, want string }{
		{"leave", "", "{Kind:leave Node: Partition:0 From: To: Force:false}"},
		{"rebalance", "{}", "{Kind:rebalance Node: Partition:0 From: To: Force:false}"},
		{"nodes/n2/remove", `{"force":true}`, "{Kind:remove_node Node:n2 Partition:0 From: To: Force:true}"},
		{"partitions/3/transfer", `{"to":"n2"}`, "{Kind:transfer Node: Partition:3 From: To:n2 Force:false}"},
		{"partitions/0/move", `{"from":"n1","to":"n2"}`, "{Kind:move Node: Partition:0 From:n1 To:n2 Force:false}"},
	} {
		var changed protocol.ClusterChanged
		s.do(http.MethodPost, "/v1/cluster/"+c.path, c.body).want(202).into(&changed)
		if changed.Detail != c.want {
			t.Errorf("%s: got %s, want %s", c.path, changed.Detail, c.want)
		}
	}
	s.do(http.MethodPost, "/v1/cluster/nodes/n9/remove", "").wantProblem(protocol.NoSuchNode)
	s.do(http.MethodPost, "/v1/cluster/partitions/3/transfer", "").wantProblem(protocol.BadRequest)
	s.do(http.MethodPost, "/v1/cluster/partitions/x/move", "").wantProblem(protocol.BadRequest)
	s.do(http.MethodPost, "/v1/cluster/leave", `{"when":"now"}`).wantProblem(protocol.BadJSON)
}

func TestHealthAndCluster(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Cluster, o.Health = oneNode{}, oneNode{errors.New("partition 3 has no leader")} })
	s.get("/livez").want(200)
	if a := s.get("/readyz").wantProblem(protocol.NoLeader); !strings.Contains(a.Body, "partition 3 has no leader") {
		t.Errorf("got %s, want the reason", a.Body)
	}
	var status protocol.ClusterStatus
	s.get("/v1/cluster").want(200).into(&status)
	if status.ClusterID != "c1" || len(status.Nodes) != 1 {
		t.Errorf("got %+v, want the status", status)
	}
}

func TestReadinessEndsWithTheDrain(t *testing.T) {
	s := newSite(t)
	s.get("/readyz").want(200)
	s.startDrain()
	s.get("/readyz").wantProblem(protocol.ShuttingDown).wantHeader("Retry-After", "1")
	s.get("/v1/events?topic=a", "Accept", "text/event-stream").wantProblem(protocol.ShuttingDown)
	s.get("/v1/events?topic=a&wait=30s").wantProblem(protocol.ShuttingDown)
	s.get("/v1/events?topic=a").want(200)
}

func TestADrainSpreadsItsStreamsOverTheWindow(t *testing.T) {
	const streams = 16
	const window = 300 * time.Millisecond
	s := newSite(t, func(o *Options) {
		o.DrainWindow = func(readers int) time.Duration { return time.Duration(readers) * window / streams }
	})
	var clients []*wsClient
	for range streams {
		clients = append(clients, s.dialJSON("/v1/events?topic=a"))
	}
	told := make(chan time.Duration, streams)
	began := time.Now()
	for _, c := range clients {
		go func() {
			for c.push().Drain == nil {
			}
			told <- time.Since(began)
			_ = c.conn.Close()
		}()
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: got %v, want nil", err)
	}
	first, last := <-told, time.Duration(0)
	for range streams - 1 {
		last = <-told
	}
	if spread := last - first; spread < window/3 {
		t.Errorf("told within %v, want it spread over %v", spread, window)
	}
}

func TestOriginsAreChecked(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Origins = []string{"https://app.example.com"} })
	at := "/v1/topics/a/events"
	for _, origin := range []string{"http://" + s.addr, "http://localhost:3000", "https://app.example.com"} {
		s.do(http.MethodPost, at, "x", "Origin", origin).want(201).wantHeader("Access-Control-Allow-Origin", origin)
		a := s.do(http.MethodOptions, at, "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "pushd-event-id").want(204)
		a.wantHeader("Access-Control-Allow-Origin", origin).wantHeader("Access-Control-Allow-Headers", "pushd-event-id")
	}
	for _, origin := range []string{"https://evil.example.com", "null", "http://localhost.evil.com"} {
		s.do(http.MethodPost, at, "x", "Origin", origin).wantProblem(protocol.OriginNotAllowed)
		s.get(at, "Origin", origin).want(200).wantHeader("Access-Control-Allow-Origin", "")
		s.do(http.MethodOptions, at, "", "Origin", origin, "Access-Control-Request-Method", "POST").wantProblem(protocol.OriginNotAllowed)
		s.get(at, "Origin", origin, "Upgrade", "websocket", "Connection", "Upgrade").wantProblem(protocol.OriginNotAllowed)
	}
}

func TestANodeWithoutKeysHasNoNamesOnItsOwnMachine(t *testing.T) {
	at := "/v1/topics/a/events"
	s := newSite(t, func(o *Options) { o.Origins = []string{"http://pushd.test:8080"} })
	for _, host := range []string{"", "localhost:7340", "app.localhost", "[::1]:7340", "192.0.2.1", "pushd", "pushd.test:8080"} {
		s.get(at, "Host", host).want(200)
	}
	for _, host := range []string{"evil.example", "127.0.0.1.evil.example:7340", "pushd.test"} {
		s.get(at, "Host", host).wantProblem(protocol.OriginNotAllowed)
		s.get(at+"?wait=1s", "Host", host).wantProblem(protocol.OriginNotAllowed)
		s.do(http.MethodPost, at, "x", "Host", host, "Origin", "http://"+host).wantProblem(protocol.OriginNotAllowed)
		s.get(at, "Host", host, "Origin", "http://"+host, "Upgrade", "websocket", "Connection", "Upgrade").wantProblem(protocol.OriginNotAllowed)
	}
	open := newSite(t, func(o *Options) { o.AnyHost = true })
	open.get(at, "Host", "push.example").want(200)
}

// broken panics where a broker would answer.
type broken struct{ Broker }

func (broken) Topic(context.Context, string) (protocol.TopicInfo, error) { panic("oh no") }

func TestAPanicCostsOneRequest(t *testing.T) {
	var log bytes.Buffer
	s := newSite(t, func(o *Options) {
		o.Broker = broken{o.Broker}
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	s.get("/v1/topics/a").wantProblem(protocol.Internal)
	s.publishText("a", "1")
	if !strings.Contains(log.String(), "oh no") {
		t.Errorf("log: got %s, want the panic", log.String())
	}
}

func TestTheConsoleAndClientAreServed(t *testing.T) {
	s := newSite(t)
	s.get("/").want(302).wantHeader("Location", "/console/")
	for path, contentType := range map[string]string{
		"/console/": "text/html; charset=utf-8", "/console/console.js": "text/javascript; charset=utf-8",
		"/console/console.css": "text/css; charset=utf-8", "/pushd.js": "text/javascript; charset=utf-8",
	} {
		a := s.get(path).want(200).wantHeader("Content-Type", contentType)
		if !strings.Contains(a.Header.Get("Content-Security-Policy"), "script-src 'self'") {
			t.Errorf("%s: got no content security policy", path)
		}
		s.get(path, "If-None-Match", a.Header.Get("ETag")).want(304)
	}
}

func TestHTTP2IsServedWithoutTLS(t *testing.T) {
	s := newSite(t)
	s.publishText("a", "1")
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/events?topic=a&after=earliest", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b := make([]byte, 64)
	n, err := io.ReadAtLeast(resp.Body, b, 10)
	if resp.ProtoMajor != 2 || err != nil || !strings.HasPrefix(string(b[:n]), "retry: ") {
		t.Errorf("got %s %q (%v), want a stream over HTTP/2", resp.Proto, b[:n], err)
	}
}
