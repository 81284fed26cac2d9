package edge

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pushd/pushd/broker"
)

// appendAnswer appends a poll's whole answer: what s.poll answers, without a map
// of headers for each.
func (p *waiting) appendAnswer(dst []byte, b *broker.Batch) []byte {
	if len(b.Items) == 0 && sameCursor(p.tags, b.Cursor, p.after) {
		dst = p.appendHead(dst, http.StatusNotModified, b.Cursor)
		return append(dst, "\r\n"...)
	}
	body := takeBuffer()
	defer body.put()
	var contentType string
	contentType, body.b = appendPoll(body.b, p.format, b)
	dst = p.appendHead(dst, http.StatusOK, b.Cursor)
	dst = append(append(append(dst, "Content-Type: "...), contentType...), "\r\nContent-Length: "...)
	dst = append(strconv.AppendInt(dst, int64(len(body.b)), 10), "\r\n"...)
	if p.format != formatJSON {
		dst = append(append(append(dst, upToDate+": "...), boolText(b.UpToDate)...), "\r\n"...)
	}
	return append(append(dst, "\r\n"...), body.b...)
}

// appendHead appends the status line, and the headers that every answer to a
// poll has.
func (p *waiting) appendHead(dst []byte, status int, cursor string) []byte {
	dst = appendStatus(dst, status)
	dst = append(append(append(dst, "Pushd-Cursor: "...), cursor...), "\r\nETag: W/\""...)
	dst = append(append(dst, cursor...), "\"\r\nCache-Control: no-store\r\nLink: "...)
	dst = append(appendNextLink(dst, p.target, cursor), "\r\n"...)
	if p.last {
		dst = append(dst, "Connection: close\r\n"...)
	}
	if p.header == nil {
		return append(dst, "X-Content-Type-Options: nosniff\r\nVary: "+readVary+"\r\n"...)
	}
	var more bytes.Buffer
	_ = p.header.Write(&more)
	return append(dst, more.Bytes()...)
}

// appendStatus appends what every answer begins with.
func appendStatus(dst []byte, status int) []byte {
	dst = strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(status), 10)
	dst = append(append(dst, ' '), http.StatusText(status)...)
	return appendDate(append(dst, "\r\n"...), time.Now())
}

// appendNextLink points to what follows: the same question behind the cursor,
// without the ticket, which is used up.
func appendNextLink(dst []byte, target, cursor string) []byte {
	path, query, _ := strings.Cut(target, "?")
	if !plain(target) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			u = &url.URL{Path: "/v1/events"} // it was a target when the request came
		}
		values := u.Query()
		values.Del("after")
		values.Del(ticketParam)
		path, query = u.EscapedPath(), values.Encode()
	}
	dst = append(append(append(append(dst, '<'), path...), "?after="...), cursor...)
	for part := range strings.SplitSeq(query, "&") {
		if key, _, _ := strings.Cut(part, "="); key != "" && key != "after" && key != ticketParam {
			dst = append(append(dst, '&'), part...)
		}
	}
	return append(dst, `>; rel="next"`...)
}

// plain says whether a request's target can stand in a link as it came.
func plain(target string) bool {
	if target == "" || target[0] != '/' {
		return false
	}
	for i := range len(target) {
		switch c := target[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("/?&=-._~:@*,", c) >= 0:
		default:
			return false
		}
	}
	return true
}
