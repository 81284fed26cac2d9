package peers

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// nginxVariable and nchanVariable say where Nchan's two parts are, if not where
// Debian puts them.
const (
	nginxVariable = "PUSHD_PEERS_NGINX"
	nchanVariable = "PUSHD_PEERS_NCHAN"
)

// findNchan gives nginx and the module (Debian's packages nginx and
// libnginx-mod-nchan), or says what to do about it.
func findNchan() (nginx, module string, err error) {
	if nginx = os.Getenv(nginxVariable); nginx == "" {
		nginx = "nginx"
	}
	if module = os.Getenv(nchanVariable); module == "" {
		module = "/usr/lib/nginx/modules/ngx_nchan_module.so"
	}
	if nginx, err = exec.LookPath(nginx); err != nil {
		return "", "", fmt.Errorf("no Nchan: nginx is not installed (packages nginx and libnginx-mod-nchan, or %s and %s): %w", nginxVariable, nchanVariable, err)
	}
	if _, err := os.Stat(module); err != nil {
		return "", "", fmt.Errorf("no Nchan: nginx lacks the module (package libnginx-mod-nchan, or %s): %w", nchanVariable, err)
	}
	return nginx, module, nil
}

// nchanConfig has one worker, which is the process itself, and keeps events in
// shared memory, as many as any load has on its way.
const nchanConfig = `load_module %s;
daemon off; master_process off; worker_processes 1; worker_rlimit_nofile %d; user root;
error_log stderr error; pid %[3]s/pid;
events { use epoll; worker_connections %[2]d; multi_accept on; }
http {
  access_log off; tcp_nodelay on; keepalive_timeout 1h; keepalive_requests 1000000000;
  client_body_temp_path %[3]s; proxy_temp_path %[3]s; fastcgi_temp_path %[3]s; uwsgi_temp_path %[3]s; scgi_temp_path %[3]s;
  nchan_shared_memory_size 512M; nchan_message_buffer_length 2000; nchan_message_timeout 10m;
  server {
    listen %[4]s backlog=%[5]d;
    location = /pub { nchan_publisher; nchan_channel_id $arg_id; }
    location = /sub { nchan_subscriber; nchan_channel_id $arg_id; nchan_subscriber_first_message newest; }
    location = /poll { nchan_subscriber interval-poll; nchan_channel_id $arg_id; }
  }
}
`

// nchanModule is one nginx with Nchan.
func nchanModule(nginx, module string) peer {
	return peer{name: "Nchan", words: "nginx with Nchan, one process; published by HTTP POST, kept in memory", start: func(b *testing.B) *server {
		dir, addr := b.TempDir(), freeAddr(b)
		config := filepath.Join(dir, "nginx.conf")
		text := fmt.Sprintf(nchanConfig, module, fileLimit(b)-100, dir, addr, backlog)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		p := startPinned(b, nil, nginx, "-p", dir, "-e", "stderr", "-c", config)
		wait(b, "nginx", func() error {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
		return &server{
			process: p, name: "Nchan", addr: addr, kinds: []kind{sse, longPoll, shortPoll}, open: openNchan, place: placeOfNchan, where: whereNchan(addr),
			publish: publishing{addr: addr, refused: "HTTP/1.1 4", appendAll: appendPosts},
		}
	}}
}

// openNchan is a request of a reader. What it has had is in the headers of any
// kind.
func openNchan(k kind, topic int, after string) []byte {
	path, more := "/sub", ""
	switch k {
	case sse:
		more = "Accept: text/event-stream\r\n"
	case shortPoll:
		path = "/poll"
	case webSocket:
		more = upgradeHeaders
	}
	if modified, tag, ok := strings.Cut(after, "; "); ok {
		more += "If-Modified-Since: " + modified + "\r\nIf-None-Match: " + tag + "\r\n"
	}
	return []byte("GET " + path + "?id=" + topicName(topic) + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n")
}

// placeOfNchan is what its headers say, in the form that openNchan takes.
func placeOfNchan(head []byte) string {
	return string(field(head, "Last-Modified: ")) + "; " + string(field(head, "Etag: "))
}

// whereNchan asks where a topic ends.
func whereNchan(addr string) func(topic int) (string, error) {
	return func(topic int) (string, error) {
		body, _, err := get("http://"+addr+"/pub?id="+topicName(topic), "text/json")
		if err != nil {
			return "", err
		}
		var said struct {
			Last string `json:"last_message_id"`
		}
		if err := json.Unmarshal(body, &said); err != nil {
			return "", err
		}
		seconds, tag, _ := strings.Cut(said.Last, ":")
		at, err := strconv.ParseInt(seconds, 10, 64)
		return time.Unix(at, 0).UTC().Format(http.TimeFormat) + "; " + tag, err
	}
}

// appendPosts appends a POST for each event.
func appendPosts(dst []byte, topics []int, events [][]byte) []byte {
	for i, e := range events {
		dst = append(append(dst, "POST /pub?id="...), topicName(topics[i])...)
		dst = strconv.AppendInt(append(dst, " HTTP/1.1\r\nHost: x\r\nContent-Length: "...), int64(len(e)), 10)
		dst = append(append(dst, "\r\n\r\n"...), e...)
	}
	return dst
}
