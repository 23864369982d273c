// Package app is the composition root: it turns a configuration into a running graph, and ends it in order.
//
// Read Run for the whole: cluster, topics, state directory, engine, page, webhooks. Everything is made here and handed down;
// nothing below knows the configuration file. What starts here is joined here, in the reverse order.
//
// It refuses to decide anything about customers, records or alerts.
package app
