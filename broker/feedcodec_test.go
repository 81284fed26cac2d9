package broker

import (
	"reflect"
	"testing"
	"time"
)

func TestWhatAFeedSaysIsReadAsItWasWritten(t *testing.T) {
	for _, q := range []feedQuestion{
		{partition: 3, id: 1 << 60, from: 4, begun: true, anyone: true, selectors: []string{"a", "b.*", "$"}},
		{begun: true, selectors: []string{"a"}},
		{selectors: []string{"a"}},
	} {
		if got, err := decodeFeedQuestion(q.append(nil)); err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("question: got %+v, %v, want %+v", got, err, q)
		}
	}
	c := feedChange{partition: 3, id: 5, drop: []string{"a"}, add: []string{"b", "c.**"}}
	if got, err := decodeFeedChange(c.append(nil)); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("change: got %+v, %v, want %+v", got, err, c)
	}
	r, _, _ := decodeRecord(appendRecord(nil, 42, &sampleEvent))
	f := feedFrame{from: 1, upTo: 43, known: []feedKnown{{since: 1, counted: true, last: 2}, {since: 3, ended: true}}, records: []*Record{r}}
	got, err := decodeFeedFrame(f.append(nil))
	if err != nil || len(got.records) != 1 || got.records[0].Position != 42 || !reflect.DeepEqual(got.records[0].Event, r.Event) {
		t.Errorf("frame: got %+v, %v, want the record", got, err)
	}
	if got.records, got.sizes = f.records, nil; !reflect.DeepEqual(got, f) {
		t.Errorf("frame: got %+v, want %+v", got, f)
	}
	f = feedFrame{leader: "n2"}
	if got, err := decodeFeedFrame(f.append(nil)); err != nil || got.leader != f.leader {
		t.Errorf("moved: got %+v, %v, want %+v", got, err, f)
	}
}

func FuzzFeedQuestion(f *testing.F) {
	f.Add((&feedQuestion{partition: 3, from: 4, begun: true, selectors: []string{"a", "b.*", "$"}}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decodeFeedQuestion(b)
		if err != nil {
			return
		}
		if again, err := decodeFeedQuestion(q.append(nil)); err != nil || !reflect.DeepEqual(again, q) {
			t.Errorf("got %+v, %v, want %+v", again, err, q)
		}
		if src, err := newFeedSource(newPartition(0, "", 0, nil), &q); err == nil {
			for _, selector := range q.selectors {
				_ = src.follows(selector)
			}
		}
	})
}

func FuzzFeedChange(f *testing.F) {
	f.Add((&feedChange{partition: 3, id: 5, drop: []string{"a", "b.*"}, add: []string{"b.*"}}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeFeedChange(b)
		if err != nil {
			return
		}
		if again, err := decodeFeedChange(c.append(nil)); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("got %+v, %v, want %+v", again, err, c)
		}
		src, _ := newFeedSource(newPartition(0, "", 0, nil), &feedQuestion{})
		if src.change(nil, c.drop) != nil || src.change(c.drop, c.add) != nil || src.change(c.add, nil) != nil {
			return
		}
		if len(src.selectors.all)+len(src.selectors.patterns.next) != 0 {
			t.Errorf("%+v leaves %d selectors behind, and %d first segments of patterns", c, len(src.selectors.all), len(src.selectors.patterns.next))
		}
	})
}

func FuzzFeedFrame(f *testing.F) {
	r, _, _ := decodeRecord(appendRecord(nil, 42, &sampleEvent))
	f.Add((&feedFrame{from: 1, upTo: 43, known: []feedKnown{{since: 1, counted: true}}, records: []*Record{r}}).append(nil))
	f.Add((&feedFrame{leader: "n2"}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := decodeFeedFrame(b)
		if err != nil {
			return
		}
		fd := &feed{broker: &Broker{tail: 1 << 20}}
		fd.interests.take("a")
		fd.interests.askAll()
		_, _ = fd.take(&frame, time.Unix(1, 0))
	})
}
