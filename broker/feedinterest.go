package broker

import "strings"

// interest is one selector that a feed asks for.
type interest struct {
	selector string
	refs     int  // readers that follow it
	idle     int  // turns without a reader
	told     bool // its source has been told
	dropped  bool

	// known says that the source sends what matches. What is behind since and not
	// behind the feed's end is in the tail.
	known bool
	since uint64
	// Of one topic: the offset of its last event up to the feed's end, if counted,
	// and whether it is deleted.
	counted bool
	last    uint64
	ended   bool

	unsure map[*Subscription]struct{} // readers that wait until it is known
}

// interests are what a feed asks for, and what of it is to be told.
type interests struct {
	feedSelectors[*interest]
	text  int // bytes of all selectors
	idle  map[*interest]struct{}
	asked []*interest // told, and not answered yet; in order
	fresh []*interest // to be told
	drops []string
}

// full says that there is no room for more selectors: who comes now is served by
// what asks for everything.
func (in *interests) full() bool {
	return len(in.all) >= maxFeedSelectors || in.text >= maxFeedText
}

// wider is the interest that stands for a selector where there are too many.
func wider(selector string) string {
	if strings.HasPrefix(selector, "$") {
		return everySystemTopic
	}
	return everyTopic
}

// take counts a reader of a selector.
func (in *interests) take(selector string) {
	i := in.all[selector]
	if i == nil {
		i = &interest{selector: selector}
		in.put(selector, i)
		in.text += len(selector)
		in.fresh = append(in.fresh, i)
	}
	if i.refs++; i.refs == 1 {
		i.idle = 0
		delete(in.idle, i)
	}
}

// leave counts a reader off. The interest stays for a while: readers come back.
func (in *interests) leave(selector string, s *Subscription) {
	i := in.all[selector]
	if i == nil {
		return
	}
	delete(i.unsure, s)
	if i.refs--; i.refs == 0 {
		if in.idle == nil {
			in.idle = map[*interest]struct{}{}
		}
		in.idle[i] = struct{}{}
	}
}

// sweep drops what had no reader for feedLinger turns.
func (in *interests) sweep() {
	for i := range in.idle {
		if i.idle++; i.idle > feedLinger {
			in.drop(i)
		}
	}
}

func (in *interests) drop(i *interest) {
	delete(in.idle, i)
	in.remove(i.selector)
	in.text -= len(i.selector)
	if i.dropped = true; i.told {
		in.drops = append(in.drops, i.selector)
	}
}

// askAll lists all selectors for a new source, which has not been told anything.
func (in *interests) askAll() (selectors []string) {
	in.asked, in.fresh, in.drops = nil, nil, nil
	for selector, i := range in.all {
		i.told = true
		in.asked = append(in.asked, i)
		selectors = append(selectors, selector)
	}
	return selectors
}

// askMore lists what the source has not been told yet, at most a call's worth.
// Drops come first, since what was dropped may be among the others again. While
// it owes too many answers it is told nothing more.
func (in *interests) askMore() (add, drop []string) {
	n := min(len(in.drops), maxFeedChange)
	drop, in.drops = in.drops[:n:n], in.drops[n:]
	for len(in.drops) == 0 && len(in.fresh) > 0 && len(add) < maxFeedChange && len(in.asked) < 2*maxFeedSelectors {
		i := in.fresh[0]
		in.fresh[0], in.fresh = nil, in.fresh[1:]
		if i.dropped {
			continue
		}
		i.told = true
		in.asked = append(in.asked, i)
		add = append(add, i.selector)
	}
	return add, drop
}

// learn takes the source's answer about the selector that was told first. broken
// says that the feed has a hole before it.
func (in *interests) learn(k feedKnown, broken bool) (unsure map[*Subscription]struct{}, ok bool) {
	if len(in.asked) == 0 {
		return nil, false
	}
	i := in.asked[0]
	in.asked[0], in.asked = nil, in.asked[1:]
	if !i.known || broken {
		i.since = k.since
	}
	i.known, i.counted, i.last, i.ended = true, k.counted, k.last, k.ended
	unsure, i.unsure = i.unsure, nil
	return unsure, true
}

// forgo says that nothing matching came between a position and where the feed
// goes on.
func (in *interests) forgo(upTo uint64) {
	for _, i := range in.all {
		i.since, i.counted = max(i.since, upTo), false
	}
}
