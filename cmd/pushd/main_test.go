package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pushd/pushd/cmd/node"
	"github.com/pushd/pushd/protocol"
	"github.com/pushd/pushd/protocol/client"
)

// startNode runs a node for the commands and gives its URL.
func startNode(t *testing.T) string {
	t.Helper()
	any := "127.0.0.1:0"
	ready := make(chan string, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	cfg := node.Config{NodeName: "n1", DataDir: t.TempDir(), ClientAddr: any, PeerAddr: any, GossipAddr: any, WebhookAllowPrivate: true, WebhookAllowHTTP: true}
	go func() { ended <- node.Run(ctx, cfg, func(n *node.Node) { ready <- n.ClientURL() }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with %v", err)
		}
	})
	select {
	case url := <-ready:
		return url
	case err := <-ended:
		ended <- err
		t.Fatalf("the node did not start: %v", err)
		return ""
	}
}

// pushd runs one command line.
func pushd(in string, args ...string) (code int, out, talk string) {
	var o, e bytes.Buffer
	code = run(append([]string{"pushd"}, args...), strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

func TestCommandsDoWhatTheySay(t *testing.T) {
	t.Setenv("PUSHD_SERVER", startNode(t))
	for _, c := range []struct {
		in   string
		args string
		want string // in the output
	}{
		{"", "publish a one", "a      1"},
		{"two", "publish a -", "a      2"},
		{"three\n\nfive", "publish --lines a -", ""},
		{"", "publish a six -o json --type t --header k:v --id x", `"offset": 6`},
		{"", "publish -o ndjson a again --id x", `"duplicate":true`},
		{"", "subscribe a --after earliest --count 6", "one\ntwo\nthree\n\nfive\nsix\n"},
		{"", "subscribe a --via sse --after earliest --count 1", "one\n"},
		{"", "subscribe a --via longpoll --after earliest --count 1", "one\n"},
		{"", "subscribe --via poll --after -1 --count 1 -o ndjson *", `"headers":{"k":"v"},"data":"six"`},
		{"", "topics", "a      "},
		{"", "topics -o json", `"last_offset": 6`},
		{"", "topics a -o ndjson", `"leader":"n1"`},
		{"", "nodes", "n1    alive"},
		{"", "nodes -o json", `"nodes": [`},
		{"", "partitions -o ndjson", `{"id":7,"leader":"n1","replicas":[{"node":"n1","voter":true`},
		{"", "version", "pushd "},
		{"", "completion bash", "complete "},
		{"", "completion zsh", "compdef"},
		{"", "completion fish", "complete -c pushd"},
		{"", "topics rm a", ""},
		{"", "", "pushd dev"},
	} {
		code, out, talk := pushd(c.in, strings.Fields(c.args)...)
		if code != exitOK || !strings.Contains(out, c.want) {
			t.Errorf("pushd %s: got exit code %d, %q and %q, want 0 and %q", c.args, code, out, talk, c.want)
		}
	}
}

func TestRefusalsHaveTheirExitCodesAndSayWhatToDo(t *testing.T) {
	url := startNode(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("node_name: n1\nclient_adr: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := strings.TrimPrefix(url, "http://")
	for _, c := range []struct {
		args string
		code int
		want string // in what it says
	}{
		{"publsh a b", exitUsage, "did you mean publish?"},
		{"publish a b --tpe x", exitUsage, "unknown flag --tpe; did you mean --type?"},
		{"publish", exitUsage, "takes a topic"},
		{"publish a..b x", exitUsage, "empty segment"},
		{"publish a x --ack maybe", exitUsage, "--ack"},
		{"publish a x --header k", exitUsage, "NAME:VALUE"},
		{"publish a x -o yaml", exitUsage, "table, json or ndjson"},
		{"publish a x --if-match 7", exitFailed, "offset_mismatch"},
		{"publish $sys x", exitDenied, "belongs to the system"},
		{"subscribe", exitUsage, "at least one topic"},
		{"subscribe a --via pigeon", exitUsage, "ws, sse, longpoll or poll"},
		{"subscribe a --after nonsense", exitUsage, "bad_cursor"},
		{"subscribe a --count 1 --timeout 50ms", exitTimedOut, "time was up"},
		{"topics nope", exitNotFound, "no topic nope"},
		{"topics rm nope", exitNotFound, "no topic nope"},
		{"topics --server http://127.0.0.1:1", exitUnreachable, "http://127.0.0.1:1"},
		{"topics --server 127.0.0.1", exitUsage, "--server"},
		{"agent now", exitUsage, "pushd agent join"},
		{"agent join", exitUsage, "at least one member"},
		{"agent --partitions 1000", exitUsage, "--partitions"},
		{"agent --client-addr 0.0.0.0:7340", exitUsage, "--insecure-no-auth"},
		{"agent --gossip-addr 0.0.0.0:7342", exitUsage, "--insecure-cluster"},
		{"agent --log-level loud", exitUsage, "--log-level"},
		{"agent --config " + bad, exitUsage, "did you mean client_addr?"},
		{"agent --client-addr " + taken + " --data-dir " + dir, exitFailed, "--client-addr"},
		{"dev -n 100", exitUsage, "at most"},
		{"completion tcsh", exitUsage, "bash, zsh or fish"},
	} {
		args := strings.Fields(c.args)
		if !strings.Contains(c.args, "--server") && slices.Contains([]string{"publish", "subscribe", "topics"}, args[0]) {
			args = append(args, "--server", url)
		}
		code, out, talk := pushd("", args...)
		if code != c.code || !strings.Contains(talk, c.want) || out != "" {
			t.Errorf("pushd %s: got exit code %d, said %q, printed %q; want %d and %q", c.args, code, talk, out, c.code, c.want)
		}
	}
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	app := newApp(nil, nil, nil)
	for in, want := range map[string]string{
		"publish a b --id x":             "publish --id x a b",
		"publish --id x a b":             "publish --id x a b",
		"publish a --lines -":            "publish --lines a -",
		"publish a -o json -- --not-one": "publish -o json -- a --not-one",
		"-o json topics a":               "topics -o json a",
		"--lines pub a -":                "pub --lines a -",
		"publish a --id=x -1":            "publish --id=x -1 a",
		"agent join h:1 --zone z h:2":    "agent join --zone z h:1 h:2",
		"topics rm a -o json":            "topics rm -o json a",
	} {
		got := strings.Join(hoist(app, append([]string{"pushd"}, strings.Fields(in)...)), " ")
		if got != "pushd "+want {
			t.Errorf("hoist(%s): got %q, want %q", in, got, "pushd "+want)
		}
	}
}

func TestTheNearestNameIsSuggested(t *testing.T) {
	for word, want := range map[string]string{
		"publsh": "publish", "topic": "topics", "zzzzzz": "", "": "", "a": "", "-1": "", "--tpe": "--type", "agnet": "agent", "pbu": "",
	} {
		got := didYouMean(word, []string{"publish", "pub", "topics", "agent", "-o", "-s", "--type"})
		if want != "" {
			want = fmt.Sprintf("; did you mean %s?", want)
		}
		if got != want {
			t.Errorf("didYouMean(%s): got %q, want %q", word, got, want)
		}
	}
}

func TestDistanceCountsEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"kitten", "sitting", 3}, {"ab", "ba", 2}, {"topic", "topics", 1}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q): got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestAnInterruptEndsAReaderWith0(t *testing.T) {
	url := startNode(t)
	if code, _, talk := pushd("", "publish", "a", "one", "--server", url); code != exitOK {
		t.Fatal(talk)
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		out, in := io.Pipe()
		code := make(chan int, 1)
		go func() {
			code <- run([]string{"pushd", "subscribe", "a", "--after", "earliest", "--server", url}, nil, in, io.Discard)
			_ = in.Close()
		}()
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "one" { // it runs, so it listens for signals
			t.Fatalf("got %q, want one", lines.Text())
		}
		if err := syscall.Kill(os.Getpid(), signal); err != nil {
			t.Fatal(err)
		}
		if got := <-code; got != exitOK {
			t.Errorf("%v: got exit code %d, want 0", signal, got)
		}
	}
}

func TestALineTooLongIsRefusedAndTheOnesBeforeItAreKept(t *testing.T) {
	url := startNode(t)
	input := "one\n" + strings.Repeat("x", protocol.MaxEventBytes+10)
	code, _, talk := pushd(input, "publish", "--lines", "a", "-", "--server", url)
	if code != exitFailed || !strings.Contains(talk, "after 1 events that are stored") || !strings.Contains(talk, "more than") {
		t.Errorf("got exit code %d and %q, want a refusal after 1 event", code, talk)
	}
}

func TestALineIsPublishedBeforeTheNextIsThereAndAnInterruptEndsTheWait(t *testing.T) {
	url := startNode(t)
	in, feed := io.Pipe()
	out, printed := io.Pipe()
	defer func() { _ = feed.Close() }()
	type end struct {
		code int
		talk string
	}
	ended := make(chan end, 1)
	go func() {
		var talk bytes.Buffer
		code := run([]string{"pushd", "publish", "a", "--lines", "-o", "ndjson", "--server", url}, in, printed, &talk)
		ended <- end{code, talk.String()}
	}()
	if _, err := io.WriteString(feed, "one\n"); err != nil {
		t.Fatal(err)
	}
	if lines := bufio.NewScanner(out); !lines.Scan() || !strings.Contains(lines.Text(), `"offset":1,`) {
		t.Fatalf("got %q, want the first line's place", lines.Text())
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := <-ended; got.code != exitFailed || !strings.Contains(got.talk, "after 1 events") {
		t.Errorf("got %+v, want exit code 1 after 1 event", got)
	}
}

func TestAServerThatGoesForGoodEndsALinesPublisherThatWaitsForInput(t *testing.T) {
	in, feed := io.Pipe()
	defer func() { _ = feed.Close() }()
	ended := make(chan int, 1)
	go func() {
		ended <- run([]string{"pushd", "publish", "a", "--lines", "--server", "http://127.0.0.1:1"}, in, io.Discard, io.Discard)
	}()
	if _, err := io.WriteString(feed, "one\n"); err != nil {
		t.Fatal(err)
	}
	if got := <-ended; got != exitUnreachable {
		t.Errorf("got exit code %d, want %d", got, exitUnreachable)
	}
}

func TestAGapIsALineToo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"events":[{"topic":"a","offset":8,"data":"x"}],"cursor":"c","gaps":[{"topic":"a","from":2,"to":7,"reason":"expired"}]}`)
	}))
	defer server.Close()
	code, out, talk := pushd("", "subscribe", "a", "--via", "poll", "-o", "ndjson", "--count", "1", "--server", server.URL)
	if code != exitOK || !strings.HasPrefix(out, `{"gap":{"topic":"a",`) || !strings.Contains(talk, "events 2 to 7 of a are gone (expired)") {
		t.Errorf("got exit code %d, %q and %q, want the gap in both", code, out, talk)
	}
}

func TestErrorsHaveTheirExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{&usage{}, exitUsage},
		{fmt.Errorf("node n1: %w", &node.ConfigError{}), exitUsage},
		{protocol.BadTopic.Errorf("x"), exitUsage},
		{protocol.NoSuchTopic.Errorf("x"), exitNotFound},
		{protocol.Unauthorized.Errorf("x"), exitDenied},
		{fmt.Errorf("3 events are stored: %w", protocol.NoLeader.Errorf("x")), exitUnhealthy},
		{protocol.OutcomeUnknown.Errorf("x"), exitUnhealthy},
		{protocol.StoreTimeout.Errorf("x"), exitTimedOut},
		{fmt.Errorf("%w: %w", client.ErrUnreachable, context.DeadlineExceeded), exitUnreachable},
		{context.DeadlineExceeded, exitTimedOut},
		{errTimedOut, exitTimedOut},
		{protocol.OffsetMismatch.Errorf("x"), exitFailed},
		{io.ErrUnexpectedEOF, exitFailed},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}

func TestDevSaysWhatToTryAndEndsOnAnInterrupt(t *testing.T) {
	offset, err := freeOffset()
	if err != nil {
		t.Fatal(err)
	}
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run([]string{"pushd", "dev", "-n", "2", "--port-offset", fmt.Sprint(offset)}, nil, in, io.Discard)
		_ = in.Close()
	}()
	said := ""
	for lines := bufio.NewScanner(out); !strings.Contains(said, "ready in") && lines.Scan(); {
		said += lines.Text() + "\n"
	}
	for _, want := range []string{"pushd dev: 2 nodes", "/console/", fmt.Sprint("http://127.0.0.1:", 7350+offset), "ready in"} {
		if !strings.Contains(said, want) {
			t.Fatalf("got %q, want %q in it", said, want)
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != exitOK {
		t.Errorf("got exit code %d, want 0", got)
	}
}
