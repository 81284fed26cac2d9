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
//   - With an [Auth], nobody reads, publishes or operates without the right to,
//     nor for longer than the token or key that gave it is good.
//
// # Parts
//
//	server listen router cors problem    listeners, routes, origins, refusals
//	publish batch cloudevents trace   what comes in over HTTP, and its spans
//	read accept                   what a reader asks for, however it asks
//	door proxy certificate        what clients pass before HTTP: PROXY headers and TLS
//	guests spare                  how many they are, in all and by address
//	netpoll loop conn             sockets without goroutines; netpoll_conn: with
//	sealed resume                 TLS without goroutines
//	head handoff                  requests on a loop, and on their way to net/http
//	feed follow subscribe         what a connection reads
//	ws session commands outbox    WebSockets
//	stream longpoll shortpoll     SSE and polls on a loop; page: what these answer
//	poll sse follower             what net/http serves, over HTTP/2 and otherwise
//	form writers frame            encodings; extension deflate: permessage-deflate
//	bounds limits                 what clients may do
//	auth, auth_…                  who a client is, and what it may: keys and apikeys,
//	                              jwks, token, rights, carrier (how it comes),
//	                              tickets, loop (while it is connected), sign,
//	                              webhooks (who may have what sent)
//	presence attendance           who is in a topic, and what readers are told of it
//	topics policies cluster webhooks health metrics static    the rest
//
// # Concurrency
//
// A loop is one goroutine, and owns its connections, feeds and follows: they
// have no locks. Others reach it by post and, from the broker's wake functions,
// by wakeFeed and wakeOwn; a connection is named by an id, which is good for
// nothing once that is closed. Nothing blocks on a loop: what may is done by a
// goroutine that posts its result. What net/http serves has its goroutine.
// Shutdown waits for all of them.
package edge
