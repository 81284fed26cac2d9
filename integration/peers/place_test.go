package peers

import "fmt"

func oneTopic(int) int { return 0 }

func ownTopic(i int) int { return i }

func onlyKept(int) int { return keptTopic }

// firstPlace publishes an event to a topic, and gives the place behind it.
func (c *crowd) firstPlace(topic int) (place string) {
	c.b.Helper()
	before, _ := c.server.where(topic) // of a topic without events there may be no place
	c.publishEvents([]int{topic})
	wait(c.b, "the first event", func() (err error) {
		if place, err = c.server.where(topic); err == nil && place == before {
			err = fmt.Errorf("%q is where the topic ended", place)
		}
		return err
	})
	return place
}
