package edge

import (
	"net/http"
	"time"

	"github.com/pushd/pushd/protocol"
)

func (s *Server) policies() (Policies, error) {
	if s.options.Policies == nil {
		return nil, protocol.NoSuchRoute.Errorf("this node keeps no policies")
	}
	return s.options.Policies, nil
}

// listPolicies answers GET /v1/policies.
func (s *Server) listPolicies(w http.ResponseWriter, r *http.Request) error {
	p, err := s.policies()
	if err != nil {
		return err
	}
	list, err := p.List(r.Context())
	if err != nil {
		return err
	}
	if list == nil {
		list = []protocol.Policy{}
	}
	return writeJSON(w, http.StatusOK, protocol.PolicyList{Policies: list})
}

// onPattern finds what every request about one policy needs.
func (s *Server) onPattern(r *http.Request) (Policies, string, error) {
	p, err := s.policies()
	if err != nil {
		return nil, "", err
	}
	pattern := r.PathValue("pattern")
	_, err = protocol.ParseSelector(pattern)
	return p, pattern, err
}

func (s *Server) getPolicy(w http.ResponseWriter, r *http.Request) error {
	p, pattern, err := s.onPattern(r)
	if err != nil {
		return err
	}
	policy, err := p.Get(r.Context(), pattern)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, policy)
}

func (s *Server) deletePolicy(w http.ResponseWriter, r *http.Request) error {
	p, pattern, err := s.onPattern(r)
	if err != nil {
		return err
	}
	if err := p.Delete(r.Context(), pattern); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// putPolicy sets what holds for a pattern's topics; fields left out are no
// limits.
func (s *Server) putPolicy(w http.ResponseWriter, r *http.Request) error {
	p, pattern, err := s.onPattern(r)
	if err != nil {
		return err
	}
	body, err := readBody(w, r, maxPolicyBody)
	if err != nil {
		return err
	}
	policy, err := parsePolicy(body, pattern)
	if err != nil {
		return err
	}
	if err := p.Put(r.Context(), policy); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, policy)
}

func parsePolicy(body []byte, pattern string) (protocol.Policy, error) {
	var policy protocol.Policy
	if err := decodeStrict(body, &policy, "the policy", `{"max_age":"24h","max_events":10000,"max_bytes":67108864,"presence":"on"}`); err != nil {
		return policy, err
	}
	if policy.Pattern != "" && policy.Pattern != pattern {
		return policy, protocol.BadRequest.Errorf("the policy names pattern %s, but the path says %s", clip(policy.Pattern), clip(pattern))
	}
	policy.Pattern = pattern
	if policy.MaxAge != "" {
		if age, err := time.ParseDuration(policy.MaxAge); err != nil || age <= 0 {
			return policy, protocol.BadRequest.Errorf("max_age %s: must be a duration above zero, such as 24h", clip(policy.MaxAge))
		}
	}
	switch policy.Presence {
	case "", "off", "on", "log":
		return policy, nil
	}
	return policy, protocol.BadRequest.Errorf("presence %s: must be off, on or log", clip(policy.Presence))
}
