// Package webhook sends events to HTTP endpoints. A webhook is a reader whose
// progress is replicated: the leader of each partition sends what the partition
// holds for it, and the next leader goes on where the last one stopped.
//
// # Promises
//
//   - Once [Dispatcher.Create] has returned, every event of the webhook's topics
//     is sent until its endpoint has answered 2xx, or it is in the webhook's topic
//     of dead letters, or retention took it, which is told. Nothing else ends it.
//   - The same holds of [Dispatcher.Patch]: topics and types that it adds are
//     looked at by every leader once it has returned.
//   - An event has one webhook-id over attempts, leaders and replays. After a
//     crash of the leader at most the window (64) and what was in flight comes
//     again, per partition; after a planned move nothing does.
//   - In ordered mode the next event of a topic is sent when the one before it is
//     settled. A failing event holds up its topic only.
//   - An endpoint that hangs or fails holds a slot of its own at a time; it never
//     delays another's events. What waits for it costs a few dozen bytes.
//   - Requests go to addresses of the open internet only, looked at when they are
//     dialled; without proxy, redirects or decompression.
//   - Secrets are stored under a key that is in no log and no snapshot.
//
// # Parts
//
//	dispatcher finish   the one who sends: fair turns, limits, verdicts
//	lead match follow   a led partition: feeding lanes, saving progress, taking over
//	lane                a webhook in a partition: what is not settled (pure)
//	endpoint breaker schedule   how a URL is asked, and when again (pure)
//	request signature attempt egress trace   one POST, and its span
//	service spec verify ask takeup tell   registrations, handshake, other nodes, events about them
//	seal attempts metrics   secrets at rest; the last attempts; counters
//
// # Concurrency
//
// One mutex, the dispatcher's, guards endpoints, lanes and leads. It is taken
// before a partition's lock, never behind it, and never held over I/O. Each
// request has a goroutine, at most 256 at a time. Close returns when all have
// ended.
package webhook
