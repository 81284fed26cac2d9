package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// browserVariable names the browser that tests drive: any Chromium.
const browserVariable = "PUSHD_BROWSER"

// browser is a Chromium without a window, whose tabs are opened and closed over
// its DevTools port. What they show comes from a server of the test's own, to
// which they report.
type browser struct {
	t     *testing.T
	tools string // URL of its DevTools
	pages *httptest.Server

	mu   sync.Mutex // guards what follows
	tabs map[string]*tab
}

// tab is a page under way.
type tab struct {
	browser *browser
	name    string
	id      string          // DevTools'
	orders  chan pageOrder  // what it is to do
	reports chan pageReport // what it says
	last    pageReport      // the test's own
	events  []string        // the test's own: what it was given, in order
	members map[string]int  // the test's own: how often each was seen to leave
}

// pageOrder is something that a page is to do.
type pageOrder struct {
	Info json.RawMessage `json:"info"`
}

// pageReport is what a page says when something has happened.
type pageReport struct {
	Me      string   `json:"me"`
	Members string   `json:"members"` // id and info of each, in order
	Count   int      `json:"count"`
	Left    []string `json:"left"`  // by this change
	Event   string   `json:"event"` // its data
	Error   string   `json:"error"`
}

// startBrowser finds a browser, or skips the test.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := findBrowser()
	if path == "" {
		t.Skip("no browser: install chromium, or name one in " + browserVariable)
	}
	b := &browser{t: t, tabs: map[string]*tab{}}
	b.pages = httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(b.pages.Close)
	profile, err := os.MkdirTemp("", "pushd-browser-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--user-data-dir="+profile,
		"--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--remote-debugging-port=0", "about:blank")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	t.Cleanup(func() { stopBrowser(cmd, profile) })
	b.tools = devTools(t, said)
	return b
}

// stopBrowser lets it end, so that none of its processes writes to its profile
// when that goes.
func stopBrowser(cmd *exec.Cmd, profile string) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
	}
	_ = os.RemoveAll(profile)
}

func findBrowser() string {
	if path := os.Getenv(browserVariable); path != "" {
		return path
	}
	for _, name := range []string{"chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

var devToolsLine = regexp.MustCompile(`DevTools listening on ws://([^/]+)/`)

// devTools waits until the browser says where its DevTools listen.
func devTools(t *testing.T, said io.Reader) string {
	t.Helper()
	found := make(chan string, 1)
	go func() {
		defer close(found)
		for lines := bufio.NewScanner(said); lines.Scan(); {
			if m := devToolsLine.FindStringSubmatch(lines.Text()); m != nil {
				found <- "http://" + m[1]
			}
		}
	}()
	select {
	case at := <-found:
		if at != "" {
			return at
		}
	case <-time.After(readyWithin):
	}
	t.Fatalf("the browser did not say where its DevTools listen within %v", readyWithin)
	return ""
}

// open opens a page that is present in a topic as name, by way of nodes, the
// first of which it begins with.
func (b *browser) open(name, via, topic string, nodes ...*process) *tab {
	b.t.Helper()
	p := &tab{browser: b, name: name, orders: make(chan pageOrder, 10), reports: make(chan pageReport, 1000), members: map[string]int{}}
	b.mu.Lock()
	b.tabs[name] = p
	b.mu.Unlock()
	q := url.Values{"me": {name}, "via": {via}, "topic": {topic}}
	for _, n := range nodes {
		q.Add("node", n.url(""))
	}
	var made struct {
		ID string `json:"id"`
	}
	b.tool(http.MethodPut, "/json/new?"+url.QueryEscape(b.pages.URL+"/?"+q.Encode()), &made)
	p.id = made.ID
	return p
}

// tool asks the browser's DevTools.
func (b *browser) tool(method, path string, into any) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.tools+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		b.t.Fatalf("DevTools: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.t.Fatalf("DevTools: %s %s: got %s %s (%v)", method, path, resp.Status, body, err)
	}
	if into != nil {
		if err := json.Unmarshal(body, into); err != nil {
			b.t.Fatalf("DevTools: %s: %v", body, err)
		}
	}
}

// shut closes the tab, as its user would.
func (p *tab) shut() {
	p.browser.t.Helper()
	p.browser.tool(http.MethodGet, "/json/close/"+p.id, nil)
}

// serve gives pages what they show and what they are to do, and takes what they
// say.
func (b *browser) serve(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	p := b.tabs[r.URL.Query().Get("me")]
	b.mu.Unlock()
	switch {
	case p == nil:
		http.NotFound(w, r)
	case r.URL.Path == "/order":
		select {
		case o := <-p.orders:
			_ = json.NewEncoder(w).Encode(o)
		case <-r.Context().Done():
		}
	case r.URL.Path == "/report":
		var report pageReport
		if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
			b.t.Errorf("%s reports nonsense: %v", p.name, err)
		}
		p.reports <- report
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, presencePage)
	}
}

// want waits until the page shows these members, each with its info.
func (p *tab) want(members ...string) {
	p.browser.t.Helper()
	want := strings.Join(members, " ")
	p.until(fmt.Sprintf("the members %q", want), func() bool { return p.last.Members == want && p.last.Count == len(members) })
}

// wantEvents waits until the page was given exactly these events.
func (p *tab) wantEvents(want ...string) {
	p.browser.t.Helper()
	p.until(fmt.Sprintf("the events %v", want), func() bool { return len(p.events) >= len(want) })
	if !slices.Equal(p.events, want) {
		p.browser.t.Errorf("%s got events %v, want %v", p.name, p.events, want)
	}
}

// until takes what the page says until all is as it should be.
func (p *tab) until(what string, ok func() bool) {
	t := p.browser.t
	t.Helper()
	late := time.After(readyWithin)
	for !ok() {
		select {
		case r := <-p.reports:
			p.take(r)
		case <-late:
			t.Fatalf("%s does not show %s within %v: members %q, count %d, events %v, last error %q",
				p.name, what, readyWithin, p.last.Members, p.last.Count, p.events, p.last.Error)
		}
	}
}

func (p *tab) take(r pageReport) {
	if r.Event != "" {
		p.events = append(p.events, r.Event)
	}
	for _, id := range r.Left {
		p.members[id]++
	}
	p.last = r
}
