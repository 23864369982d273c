// Package console serves the page: the queue of open alerts, one customer's picture, the detectors, the feeds and the engine.
//
// It reads and shows. What it knows of alerts comes from the alert topics, like any other subscriber's knowledge (Book); what
// it knows of customers and of the engine it asks for (Source). In the demo it also shows what the simulation knows and offers
// its buttons (Demo); under `ebb run` there is no Demo, and nothing of it is on the page.
//
// Invariants:
//
//   - Counts are exact: of all open alerts, and of those that a filter leaves. Rows are rendered as they are needed.
//   - Every page works without script, as a list that reloads itself on request. The script adds live updates and keys.
//   - No request goes to another host, and the content security policy has no exceptions: no inline script, no inline style.
//   - Whatever comes out of a record is escaped: ids, owners and sentences are other people's text. A customer's id stands in
//     an address only as an escaped path segment, and no page sends a referrer.
//   - A number that is not known is not shown as zero; the page says that it is not known, and why.
//
// The package does not judge anybody. The expected range that it draws is computed from the series for the eye alone; the
// numbers by which an alert was decided are in its evidence, and are shown as they stand there.
//
// It refuses to change anything: there is no route that writes, save for the demo's buttons.
package console
