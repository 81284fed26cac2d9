// Package edge serves clients: it turns HTTP, Server-Sent Events and WebSocket
// into calls of the broker, and a broker's batches into bytes.
//
// # Promises
//
//   - Short poll, long poll, SSE and WebSocket are one reader (a broker
//     subscription) in four encodings; a cursor moves between them.
//   - An answer that says "stored" was given by the broker. What was received
//     and not stored is refused in words, with a code of package protocol.
//   - A slow reader is not cut: nothing is pulled for it while its last bytes
//     are not written. Its queue is the log.
//   - Every refusal is RFC 9457 problem+json, or its WebSocket form.
//   - Nothing a client sends is allocated by its claimed length.
//
// # Parts
//
//	server router cors problem    listeners, routes, origins, refusals
//	publish batch                 what comes in over HTTP
//	read accept                   what a reader asks for, however it asks
//	poll sse ws                   the ways to read, each with its socket
//	session commands outbox       a WebSocket's logic, which knows no socket
//	follower writers frame        pulling from a subscription, and its encodings
//	presence attendance           who is there, and a reader's part in it
//	topics policies cluster health static    the rest
//
// # Concurrency
//
// A connection has net/http's goroutine; a WebSocket has a second one that
// writes, and a third while publishes are under way. A follower belongs to the
// goroutine that writes. Wake functions only set a flag and signal a channel.
// The server waits for all of them in Shutdown.
package edge
