package edge

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/protocol"
)

// newGuarded is a site that asks for tokens.
func newGuarded(t testing.TB, apiKeys string, change ...func(*Options)) *site {
	t.Helper()
	return newSite(t, append(change, func(o *Options) {
		o.Auth = openTestAuth(t, AuthOptions{}, testSecret, apiKeys)
		o.NodeID = "self"
	})...)
}

func bearer(text string) []string { return []string{"Authorization", "Bearer " + text} }

// mayAll may do everything with what clients publish.
var mayAll = map[string][]string{"**": {"sub", "hist", "pub", "pres"}}

func TestEachWayOfBringingATokenLetsOneIn(t *testing.T) {
	s := newGuarded(t, "")
	text := token(t, ann(mayAll))
	s.do(http.MethodPost, "/v1/topics/a/events", "hi", append(bearer(text), "Content-Type", "text/plain")...).want(201)
	const path = "/v1/topics/a/events"
	s.get(path, bearer(text)...).want(200)
	s.get(path, "Authorization", "bearer  "+text).want(200)
	s.get(path, "Cookie", "pushd_token="+text).want(200)
	s.get(path, "Cookie", "__Host-pushd_token="+text+"; pushd_token=other").want(200)
	var made protocol.Ticket
	s.do(http.MethodPost, "/v1/tickets", "", bearer(text)...).want(201).into(&made)
	if made.ExpiresInMS != 60_000 {
		t.Errorf("a ticket is good for %d ms, want 60000", made.ExpiresInMS)
	}
	got := s.get(path + "?ticket=" + made.Ticket).want(200)
	if strings.Contains(got.Header.Get("Link"), "ticket") {
		t.Errorf("Link: got %q, want it without the ticket", got.Header.Get("Link"))
	}
	s.get(path + "?ticket=" + made.Ticket).wantProblem(protocol.BadToken)
	st := s.stream(path+"?after=earliest", bearer(text)...)
	st.first()
	if b := st.block(); !strings.Contains(b, "data: hi") {
		t.Errorf("SSE: got %q, want hi", b)
	}
}

func TestRequestsWithoutAGoodTokenAreRefused(t *testing.T) {
	s := newGuarded(t, "")
	good := token(t, ann(mayAll))
	const path = "/v1/topics/a/events"
	s.get(path).wantProblem(protocol.Unauthorized).wantHeader("WWW-Authenticate", `Bearer realm="pushd"`)
	s.get(path, bearer("x.y.z")...).wantProblem(protocol.BadToken).wantHeader("WWW-Authenticate", `Bearer realm="pushd", error="invalid_token"`)
	s.get(path, bearer(token(t, jwt.MapClaims{"exp": in(-60)}))...).wantProblem(protocol.TokenExpired)
	s.get(path, "Authorization", "Basic YTpi").wantProblem(protocol.BadToken)
	s.get(path, "Authorization", "Bearer "+good, "Authorization", "Bearer "+good).wantProblem(protocol.BadToken)
	s.get(path, bearer("pk_AAAA")...).wantProblem(protocol.BadToken)
	for _, name := range []string{"token", "access_token", "authorization", "Access_Token"} {
		for _, more := range []string{"", "&wait=1s"} {
			s.get(path+"?"+name+"="+good+more, bearer(good)...).wantProblem(protocol.TokenInURL)
		}
	}
	s.get(path + "?ticket=self.AAAA").wantProblem(protocol.BadToken)
	s.get(path + "?ticket=AAAA&wait=1s").wantProblem(protocol.BadToken)
	s.get(path + "?ticket=other.AAAA").wantProblem(protocol.BadToken)
	for _, wait := range []string{"", "?wait=1s"} {
		s.get(path + wait).wantProblem(protocol.Unauthorized)
		s.get(path+wait, "Accept", "text/event-stream").wantProblem(protocol.Unauthorized)
	}
	s.do(http.MethodPost, "/v1/tickets", "").wantProblem(protocol.Unauthorized)
}

func TestACookieCountsForTrustedPagesOnly(t *testing.T) {
	s := newGuarded(t, "", func(o *Options) { o.Origins = []string{"https://app.example", "*"} })
	cookie := []string{"Cookie", "pushd_token=" + token(t, ann(mayAll))}
	with := func(more ...string) []string { return append(append([]string(nil), cookie...), more...) }
	const path = "/v1/topics/a/events"
	s.get(path, with("Origin", "https://app.example")...).want(200).wantHeader("Access-Control-Allow-Credentials", "true")
	s.get(path, with("Origin", s.url)...).want(200)
	s.get(path, with("Sec-Fetch-Site", "same-origin")...).want(200)
	s.get(path, with("Origin", "https://evil.example")...).wantProblem(protocol.OriginNotAllowed).wantHeader("Access-Control-Allow-Credentials", "")
	s.get(path, with("Origin", "http://localhost:3000")...).wantProblem(protocol.OriginNotAllowed)
	s.get(path, with("Sec-Fetch-Site", "cross-site")...).wantProblem(protocol.OriginNotAllowed)
	s.do(http.MethodPost, path, "hi", with("Origin", "null")...).wantProblem(protocol.OriginNotAllowed)
	preflight := s.do(http.MethodOptions, path, "", "Origin", "https://app.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
	preflight.want(204).wantHeader("Access-Control-Allow-Credentials", "true").wantHeader("Access-Control-Allow-Headers", "authorization")
}

func TestEachRightIsNeededForWhatItIsFor(t *testing.T) {
	s := newGuarded(t, "")
	s.do(http.MethodPost, "/v1/topics/a.b/events", "hi", bearer(token(t, ann(mayAll)))...).want(201)
	only := func(pattern string, rights ...string) []string {
		return bearer(token(t, ann(map[string][]string{pattern: rights})))
	}
	var page protocol.Page
	s.get("/v1/topics/a.b/events?after=latest", only("a.*", "sub")...).want(200).into(&page)
	own := page.Cursor
	for _, c := range []struct {
		path   string
		cap    []string
		status int
	}{
		{"/v1/topics/a.b/events", only("a.*", "hist"), 200},
		{"/v1/topics/a.b/events", only("a.*", "sub"), 403},
		{"/v1/topics/a.b/events", only("a.*", "pub"), 403},
		{"/v1/topics/a.b/events?after=latest", only("a.*", "sub"), 200},
		{"/v1/topics/a.b/events?after=-0", only("a.*", "sub"), 200},
		{"/v1/topics/a.b/events?after=-1", only("a.*", "sub"), 403},
		{"/v1/topics/a.b/events?after=@1h", only("a.*", "sub"), 403},
		{"/v1/topics/a.b/events?after=" + own, only("a.*", "sub"), 200},
		{"/v1/topics/a.c/events?after=" + own, only("a.*", "sub"), 403}, // where it would begin at the earliest
		{"/v1/topics/a.b/events?after=" + own[:len(own)-1] + "~", only("a.*", "sub"), 400},
		{"/v1/topics/a.b/events?wait=1s", only("a.*", "hist"), 403},
		{"/v1/topics/a.b/events?after=latest&wait=1ms", only("a.*", "sub"), 200},
		{"/v1/topics/a.b/events?wait=1ms", only("a.*", "sub", "hist"), 200},
		{"/v1/events?topic=a.*&after=latest", only("a.*", "sub"), 200},
		{"/v1/events?topic=a.**&after=latest", only("a.*", "sub"), 403},
		{"/v1/events?topic=a.b&topic=c&after=latest", only("a.*", "sub"), 403},
		{"/v1/topics/$presence.a/events?after=latest", only("**", "sub"), 403},
		{"/v1/topics/$presence.a/events?after=latest", only("$presence.**", "sub"), 200},
		{"/v1/topics/a.b/presence", only("a.*", "pres"), 404}, // there is none in this test
		{"/v1/topics/a.b/presence", only("a.*", "sub"), 403},
		{"/v1/topics/a.b/events?after=latest&wait=1ms&presence=1", only("a.*", "sub"), 403},
		{"/v1/topics", only("**", "*"), 403},
		{"/v1/topics", only("$topics", "admin"), 200},
		{"/v1/topics/a.b", only("$**", "admin"), 200},
		{"/v1/cluster", only("$topics", "admin"), 403},
		{"/v1/cluster", only("$cluster", "admin"), 404},
		{"/v1/policies", only("$policies", "sub", "pub"), 403},
		{"/v1/webhooks", only("$cluster", "admin"), 403},
		{"/v1/webhooks/x/attempts", only("$webhooks", "admin"), 404},
		{"/metrics", only("**", "sub"), 403},
		{"/metrics", only("$metrics", "admin"), 200},
	} {
		if got := s.get(c.path, c.cap...); got.Status != c.status {
			t.Errorf("GET %s: got %d %s, want %d", c.path, got.Status, got.Body, c.status)
		} else if c.status == 403 {
			got.wantProblem(protocol.Forbidden)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/console/", "/pushd.js"} {
		s.get(path).want(200)
	}
	s.do(http.MethodDelete, "/v1/topics/a.b", "", only("a.*", "*")...).wantProblem(protocol.Forbidden)
}

func TestPublishingTakesItsRight(t *testing.T) {
	s := newGuarded(t, "")
	who := bearer(token(t, ann(map[string][]string{"a.*": {"pub"}})))
	s.do(http.MethodPost, "/v1/topics/a.b/events", "hi", who...).want(201)
	s.do(http.MethodPost, "/v1/topics/b/events", "hi", who...).wantProblem(protocol.Forbidden)
	got := s.do(http.MethodPost, "/v1/events", `[{"topic":"a.b","data":1},{"topic":"b","data":2}]`, who...).want(207).Body
	if !strings.Contains(got, `"offset":2`) || !strings.Contains(got, `"forbidden"`) {
		t.Errorf("a batch: got %s, want one stored and one forbidden", got)
	}
	cloud := append(who, "Content-Type", "application/cloudevents+json")
	s.do(http.MethodPost, "/v1/events", `{"specversion":"1.0","id":"1","source":"/x","type":"t","topic":"b"}`, cloud...).want(207)
	s.do(http.MethodPost, "/v1/topics/b/events", `{"specversion":"1.0","id":"1","source":"/x","type":"t"}`, cloud...).wantProblem(protocol.Forbidden)
}

func TestAReaderWhoseRightsAreGoneIsToldToStayAway(t *testing.T) {
	s := newGuarded(t, "")
	none := append(bearer(token(t, ann(nil))), "Accept", "text/event-stream")
	s.get("/v1/topics/a/events", none...).wantProblem(protocol.Forbidden)
	page := s.get("/v1/topics/a/events", bearer(token(t, ann(mayAll)))...).page()
	s.get("/v1/topics/a/events", append(none, "Last-Event-ID", page.Cursor)...).want(204)
	s.get("/v1/topics/b/events", append(none, "Last-Event-ID", page.Cursor)...).wantProblem(protocol.Forbidden)
	s.get("/v1/events?topic=a&topic=b", append(none, "Last-Event-ID", page.Cursor)...).wantProblem(protocol.Forbidden)
	for _, never := range []string{"latest", "earliest", "7"} {
		s.get("/v1/topics/a/events", append(none, "Last-Event-ID", never)...).wantProblem(protocol.Forbidden)
	}
	s.get("/v1/topics/a/events", "Accept", "text/event-stream", "Last-Event-ID", "latest").wantProblem(protocol.Unauthorized)
}

func TestATokenIsOfferedAsSubprotocol(t *testing.T) {
	s := newGuarded(t, "")
	offer := func(text string) string {
		return protocol.TokenSubprotocol + base64.RawURLEncoding.EncodeToString([]byte(text))
	}
	upgrade := func(protocols string) answer {
		return s.get("/v1/events", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
			"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol", protocols)
	}
	good := offer(token(t, ann(mayAll)))
	c := s.dial("/v1/events", protocol.SubprotocolJSON, good)
	c.send(`{"id":1,"ping":{}}`)
	if p := c.push(); p.Pong == nil {
		t.Errorf("got %+v, want a pong", p)
	}
	upgrade(good).wantProblem(protocol.BadSubprotocol)
	upgrade(protocol.SubprotocolJSON).wantProblem(protocol.Unauthorized)
	upgrade(protocol.SubprotocolJSON + ", " + offer("x.y.z")).wantProblem(protocol.BadToken)
	upgrade(protocol.SubprotocolJSON + ", " + protocol.TokenSubprotocol + "***").wantProblem(protocol.BadToken)
	upgrade(protocol.SubprotocolJSON + ", " + good + ", " + good).wantProblem(protocol.BadToken)
}

func TestATokenInAURLIsFoundHoweverItIsSpelled(t *testing.T) {
	for query, refused := range map[string]bool{
		"": false, "topic=a&after=latest": false, "tokens=1&x=token": false, "%zz&topic=a": false,
		"token=x": true, "topic=a&Access_Token=x": true, "t%6Fken": true, "topic=a&&jwt": true,
	} {
		u := &url.URL{RawQuery: query}
		if got := protocol.CodeOf(refuseTokenInURL(u)) == protocol.TokenInURL; got != refused {
			t.Errorf("?%s: got refused %v, want %v", query, got, refused)
		}
	}
	u := &url.URL{RawQuery: "topic=a&after=latest&wait=25s"}
	if n := testing.AllocsPerRun(100, func() { _ = refuseTokenInURL(u) }); n != 0 {
		t.Errorf("a usual poll: got %v allocations, want 0", n)
	}
}
