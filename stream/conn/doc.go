// Package conn knows how to reach a Kafka cluster: addresses, TLS, login, protocol versions, who leads which partition.
//
// It offers two ways in. [Cluster.Client] and [Cluster.Dialer] are kafka-go's own, sharing one transport, for everything
// that is rare (topic administration, group membership). [Cluster.Open] gives a connection of one's own, for what has to be
// fast or exact: fetching, producing within a transaction, commits. kafka-go's client cannot serve those: it answers
// every fault with "topic not found", keeps leaders for as long as its cache likes, and allocates for each record.
//
// What is kept here:
//
//   - Every failure to get in is a [Fault]: what kind it is, at which address, and what mends it. A wrong password is never
//     reported as a missing topic.
//   - Metadata requests never create topics.
//   - No call retries for ever or backs off by itself; the caller owns the loop and has [Backoff] for it.
//   - Nothing waits on a mutex while it waits for the network, so that all of it runs in a testing/synctest bubble.
//
// It refuses to talk to a broker whose protocol versions it does not share, instead of guessing one.
package conn
