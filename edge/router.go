package edge

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/pushd/pushd/protocol"
)

// handler answers a request, or returns why not, having written nothing.
type handler func(w http.ResponseWriter, r *http.Request) error

// route is one path of the API. A segment in braces takes any text.
type route struct {
	path     string
	segments []string
	methods  map[string]handler
	read     bool   // GET reads events: the loops serve it, too
	public   bool   // for everybody, whoever that is
	operates string // the system topic that takes the right admin; "": the handler looks at rights
}

func (s *Server) table() []route {
	list := []route{
		{path: "/", public: true, methods: on(http.MethodGet, redirect("/console/"))},
		{path: "/console", public: true, methods: on(http.MethodGet, redirect("/console/"))},
		{path: "/livez", public: true, methods: on(http.MethodGet, s.livez)},
		{path: "/readyz", public: true, methods: on(http.MethodGet, s.readyz)},
		{path: "/metrics", operates: "$metrics", methods: on(http.MethodGet, s.serveMetrics)},
		{path: "/v1/cluster", operates: "$cluster", methods: on(http.MethodGet, s.clusterStatus)},
		{path: "/v1/cluster/leave", operates: "$cluster", methods: on(http.MethodPost, s.changeCluster(protocol.LeaveItself))},
		{path: "/v1/cluster/restore", operates: "$cluster", methods: on(http.MethodPost, s.restore)},
		{path: "/v1/cluster/rebalance", operates: "$cluster", methods: on(http.MethodPost, s.changeCluster(protocol.Rebalance))},
		{path: "/v1/cluster/nodes/{node}/remove", operates: "$cluster", methods: on(http.MethodPost, s.changeCluster(protocol.RemoveNode))},
		{path: "/v1/cluster/partitions/{partition}/transfer", operates: "$cluster", methods: on(http.MethodPost, s.changeCluster(protocol.Transfer))},
		{path: "/v1/cluster/partitions/{partition}/move", operates: "$cluster", methods: on(http.MethodPost, s.changeCluster(protocol.Move))},
		{path: "/v1/events", read: true, methods: map[string]handler{http.MethodGet: s.readEvents, http.MethodPost: s.publishBatch}},
		{path: "/v1/policies", operates: "$policies", methods: on(http.MethodGet, s.listPolicies)},
		{path: "/v1/policies/{pattern}", operates: "$policies", methods: map[string]handler{
			http.MethodGet: s.getPolicy, http.MethodPut: s.putPolicy, http.MethodDelete: s.deletePolicy,
		}},
		{path: "/v1/tickets", methods: on(http.MethodPost, s.createTicket)},
		{path: "/v1/topics", operates: "$topics", methods: on(http.MethodGet, s.listTopics)},
		{path: "/v1/topics/{topic}", operates: "$topics", methods: map[string]handler{http.MethodGet: s.getTopic, http.MethodDelete: s.deleteTopic}},
		{path: "/v1/topics/{topic}/presence", methods: on(http.MethodGet, s.getPresence)},
		{path: "/v1/topics/{topic}/events", read: true, methods: map[string]handler{http.MethodGet: s.readEvents, http.MethodPost: s.publish}},
	}
	list = append(list, s.webhookRoutes()...)
	list = append(list, staticRoutes()...)
	for i := range list {
		list[i].segments = strings.Split(list[i].path[1:], "/")
		if get := list[i].methods[http.MethodGet]; get != nil {
			list[i].methods[http.MethodHead] = get // net/http leaves out the body
		}
	}
	return list
}

func on(method string, h handler) map[string]handler { return map[string]handler{method: h} }

func redirect(to string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		http.Redirect(w, r, to, http.StatusFound)
		return nil
	}
}

// ServeHTTP answers one request. A handler's panic costs that request only.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := &tracker{ResponseWriter: w}
	defer func() {
		reason := recover()
		if reason == nil {
			return
		}
		if reason == http.ErrAbortHandler {
			panic(reason)
		}
		s.log.Error("handler panicked", "path", r.URL.Path, "err", fmt.Sprint(reason), "stack", string(debug.Stack()))
		if t.written {
			panic(http.ErrAbortHandler) // the client must not take what it has for whole
		}
		writeProblem(t, protocol.Internal.Errorf("the node made a mistake answering this; its log says more"))
	}()
	if err := s.dispatch(t, r); err != nil {
		s.refuse(t, r, err)
	}
}

// refuse answers with an error.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if protocol.CodeOf(err) == protocol.Internal && r.Context().Err() == nil {
		s.log.Error("request failed", "path", r.URL.Path, "err", err)
	}
	s.metrics.refused(asError(err).Code)
	if comesBackInVain(r, err) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeProblem(w, err)
}

// isRead says whether the request reads events; it notes the topic of the path.
func (s *Server) isRead(r *http.Request) bool {
	found := s.find(r)
	return found != nil && found.read && r.Method == http.MethodGet
}

// checkRequest refuses what pages of others have their visitors' browsers ask.
func (s *Server) checkRequest(w http.ResponseWriter, r *http.Request) error {
	if err := s.checkHost(r); err != nil {
		return err
	}
	return s.checkOrigin(w, r)
}

func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if s.draining.Err() != nil {
		w.Header().Set("Connection", "close") // so that the client looks for another node
	}
	found := s.find(r)
	if found == nil {
		return protocol.NoSuchRoute.Errorf("%s is no path of the API; events are at /v1/topics/{topic}/events and /v1/events?topic=…, the console is at /console/", clip(r.URL.Path))
	}
	if r.Method == http.MethodOptions {
		return s.preflight(w, r, found)
	}
	h := found.methods[r.Method]
	if h == nil {
		w.Header().Set("Allow", found.allow())
		return protocol.MethodNotAllowed.Errorf("%s does not take %s; it takes %s", clip(r.URL.Path), clip(r.Method), found.allow())
	}
	if err := s.checkRequest(w, r); err != nil {
		return err
	}
	r, err := s.authorize(r, found)
	if err != nil {
		return err
	}
	return h(w, r)
}

func (s *Server) find(r *http.Request) *route {
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i := range s.routes {
		if s.routes[i].match(r, segments) {
			return &s.routes[i]
		}
	}
	return nil
}

func (t *route) match(r *http.Request, segments []string) bool {
	if len(segments) != len(t.segments) {
		return false
	}
	for i, want := range t.segments {
		got, err := url.PathUnescape(segments[i])
		if err != nil {
			return false
		}
		if name, ok := strings.CutPrefix(want, "{"); ok && got != "" {
			r.SetPathValue(strings.TrimSuffix(name, "}"), got)
		} else if got != want {
			return false
		}
	}
	return true
}

func (t *route) allow() string {
	list := []string{http.MethodOptions}
	for m := range t.methods {
		list = append(list, m)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// tracker knows whether the answer has begun.
type tracker struct {
	http.ResponseWriter
	written bool
}

// WriteHeader gives the answer its time. It has to be set anew for each: a
// connection keeps the deadline of the answer before.
func (t *tracker) WriteHeader(status int) {
	t.written = true
	limitWrite(t.ResponseWriter, answerTimeout)
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracker) Write(b []byte) (int, error) {
	t.written = true
	return t.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }
