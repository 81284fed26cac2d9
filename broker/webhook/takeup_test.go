package webhook

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushd/pushd/protocol"
)

func TestAPatchHoldsAtEveryLeaderOnceItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4, trusting)
		defer c.close()
		w := c.create(protocol.WebhookSpec{Topics: []string{"a"}, Types: []string{"none"}})
		c.start(trusting).leads.Store(false) // requests come to a node that leads nothing
		time.Sleep(time.Second)
		want := []string{}
		for i, topic := range []string{"b", "c", "d", "e", "f", "g", "h", "i"} {
			if _, err := c.Patch(ctx, w.ID, protocol.WebhookPatch{Topics: &[]string{topic}, Types: &[]string{}}); err != nil {
				t.Fatal(err)
			}
			c.publish(topic, topic)
			want = append(want, topic)
			time.Sleep(time.Duration(1+7*i) * time.Millisecond)
		}
		time.Sleep(time.Second)
		wantStrings(t, "sent", c.world.bodies("a.example"), want)
	})
}

func TestTheNextLeaderSendsNothingThatWasPassedOverBeforeAPatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, trusting)
		defer c.close()
		w := c.create(protocol.WebhookSpec{Topics: []string{"a"}})
		c.publishMany("b", 50)
		time.Sleep(time.Second)
		if _, err := c.Patch(ctx, w.ID, protocol.WebhookPatch{Topics: &[]string{"a", "b"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		c.nodes[0].leads.Store(false)
		c.nodes[0].d.Close() // crashed
		c.start(trusting)
		time.Sleep(time.Second)
		c.publish("b", "new")
		time.Sleep(time.Second)
		wantStrings(t, "sent", c.world.bodies("a.example"), []string{"new"})
	})
}
