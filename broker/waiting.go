package broker

// waiting is the readers of a partition that wait, here or of the feed that
// stands for a replica. Those of one topic stand under it, the others under their
// selectors in a trie. These keep their place from their first wait to their end:
// being woken and waiting again costs them no walk.
type waiting struct {
	single  map[string]map[*Subscription]struct{} // by topic, which need not exist
	readers map[*Subscription]*waitingReader      // of patterns, or of several topics
	root    selectorTrie[*waitingReader]
}

// waitingReader is one reader's place.
type waitingReader struct {
	sub       *Subscription
	armed     bool     // is to be woken; once
	selectors []string // under which it stands in the trie
}

// armSingle makes a reader wait for one topic.
func (w *waiting) armSingle(s *Subscription, topic string) {
	readers := w.single[topic]
	if readers == nil {
		if w.single == nil {
			w.single = map[string]map[*Subscription]struct{}{}
		}
		readers = map[*Subscription]struct{}{}
		w.single[topic] = readers
	}
	readers[s] = struct{}{}
}

// arm makes a reader wait, for what selectors gives.
func (w *waiting) arm(s *Subscription, selectors func() []string) {
	r := w.readers[s]
	if r == nil {
		if w.readers == nil {
			w.readers = map[*Subscription]*waitingReader{}
		}
		r = &waitingReader{sub: s, selectors: selectors()}
		w.readers[s] = r
		for _, text := range r.selectors {
			w.root.add(text, r)
		}
	}
	r.armed = true
}

// disarm forgets a reader, which may wait for one of the topics.
func (w *waiting) disarm(s *Subscription, topics []string) {
	for _, topic := range topics {
		delete(w.single[topic], s)
		if len(w.single[topic]) == 0 {
			delete(w.single, topic)
		}
	}
	r := w.readers[s]
	if r == nil {
		return
	}
	delete(w.readers, s)
	for _, text := range r.selectors {
		w.root.remove(text, r)
	}
}

// takeSingle appends those that wait for the topic alone, who then wait no more.
func (w *waiting) takeSingle(dst []*Subscription, topic string) []*Subscription {
	if len(w.single) == 0 {
		return dst
	}
	return takeReaders(dst, w.single[topic])
}

// takeTopic appends the other readers that wait for a topic.
func (w *waiting) takeTopic(dst []*Subscription, topic string) []*Subscription {
	for r := range w.root.matching(topic) {
		dst = r.take(dst)
	}
	return dst
}

// takeAll appends all that wait.
func (w *waiting) takeAll(dst []*Subscription) []*Subscription {
	for _, readers := range w.single {
		dst = takeReaders(dst, readers)
	}
	for _, r := range w.readers {
		dst = r.take(dst)
	}
	return dst
}

func takeReaders(dst []*Subscription, readers map[*Subscription]struct{}) []*Subscription {
	for s := range readers {
		dst = append(dst, s)
	}
	clear(readers) // but keeps the room: most of them arm again
	return dst
}

func (r *waitingReader) take(dst []*Subscription) []*Subscription {
	if !r.armed {
		return dst
	}
	r.armed = false
	return append(dst, r.sub)
}
