package edge

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/pushd/pushd/protocol"
)

const exposed = "Pushd-Cursor, Pushd-Up-To-Date, ETag, Link, Retry-After, WWW-Authenticate"

// checkOrigin lets pages of allowed origins read answers, and keeps those of
// others from doing anything: a page anywhere may otherwise POST to a broker on
// its visitor's own machine, and open WebSockets, which know no CORS.
func (s *Server) checkOrigin(w http.ResponseWriter, r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	w.Header().Add("Vary", "Origin")
	if s.allowed(origin, r.Host) {
		s.letIn(w, origin, r.Host)
		w.Header().Set("Access-Control-Expose-Headers", exposed)
		return nil
	}
	if r.Method == http.MethodGet && !wantsUpgrade(r) || r.Method == http.MethodHead {
		return nil // the browser keeps the answer from the page
	}
	return errOrigin(origin)
}

func errOrigin(origin string) error {
	return protocol.OriginNotAllowed.Errorf("pages of %s may not use this node; allow the origin by --allow-origin", clip(origin))
}

// checkHost keeps pages from a node that lets in who is on its machine: a name
// that its owner lets point at 127.0.0.1 (DNS rebinding) makes a page of the
// same origin as the node, with all the rights that a visitor's machine has.
// Names without a dot are nobody's to sell. A browser sends an Origin with all
// but plain reads.
func (s *Server) checkHost(r *http.Request) error {
	if s.options.Auth != nil || s.options.AnyHost || slices.Contains(s.options.Origins, "*") {
		return nil
	}
	if r.Header.Get("Origin") == "" && (r.Method != http.MethodGet || wantsUpgrade(r)) {
		return nil
	}
	u := url.URL{Host: r.Host}
	name := strings.ToLower(u.Hostname())
	if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(name, ".") || strings.HasSuffix(name, ".localhost") {
		return nil
	}
	for _, origin := range s.options.Origins {
		if u, err := url.Parse(origin); err == nil && strings.EqualFold(u.Host, r.Host) {
			return nil
		}
	}
	return protocol.OriginNotAllowed.Errorf("this node asks nobody who they are, so it answers pages of this machine only, as 127.0.0.1 or localhost; allow others by --allow-origin http://%s", clip(r.Host))
}

func (s *Server) allowed(origin, host string) bool {
	if slices.Contains(s.options.Origins, "*") || slices.Contains(s.options.Origins, origin) {
		return true
	}
	u := siteOf(origin)
	return u != nil && (strings.EqualFold(u.Host, host) || loopbackName(strings.ToLower(u.Hostname())))
}

// siteOf reads an origin, nil if that is not one of a page from the web.
func siteOf(origin string) *url.URL {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil
	}
	return u
}

func loopbackName(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// letIn tells a browser that pages of an origin may read the answer, and trusted
// ones send their visitor's cookie.
func (s *Server) letIn(w http.ResponseWriter, origin, host string) {
	w.Header().Set("Access-Control-Allow-Origin", origin)
	if s.options.Auth != nil && s.trusts(origin, host) {
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}
}

// preflight answers OPTIONS: to a browser, whether its page may; to anyone
// else, what the path takes.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request, found *route) error {
	h := w.Header()
	h.Set("Allow", found.allow())
	if origin := r.Header.Get("Origin"); origin != "" && r.Header.Get("Access-Control-Request-Method") != "" {
		h.Add("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
		if !s.allowed(origin, r.Host) {
			return errOrigin(origin)
		}
		s.letIn(w, origin, r.Host)
		h.Set("Access-Control-Allow-Methods", found.allow())
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
			h.Set("Access-Control-Allow-Headers", asked)
		}
		h.Set("Access-Control-Max-Age", preflightAge)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
