package stream

import (
	"strconv"

	"ebb/alerts"
)

// A dead letter is as large as the record that it is about, and has headers besides. The broker that took the record may therefore
// refuse the letter: feeds may allow larger records than the dead-letter topic, or hold them better compressed. The letter then goes
// without the value; where that lies stands in its headers.

// omittedHeader tells how many bytes the value had that a dead letter does without.
const omittedHeader = "ebb_error_value_bytes"

// leastLetter is the size up to which values are no reason for a refusal.
const leastLetter = 1 << 10

// shorten takes the values out of the largest dead letters of a cut, and returns how many; 0 if it is not for them that the cut is too
// large.
func (c *cut) shorten(letters string) (shortened int) {
	largest := leastLetter
	for i := range c.out.messages {
		if m := &c.out.messages[i]; m.topic == letters {
			largest = max(largest, len(m.Value))
		}
	}
	for i := range c.out.messages {
		m := &c.out.messages[i]
		if m.topic != letters || len(m.Value) <= max(largest/2, leastLetter) {
			continue
		}
		m.Headers = append(m.Headers, alerts.Header{Key: omittedHeader, Value: []byte(strconv.Itoa(len(m.Value)))})
		m.Value = nil
		shortened++
	}
	return shortened
}
