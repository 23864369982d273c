package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Redate moves an act of a person from the time of life, now, to the simulated time: it happened just now there too, and what it says about the future lies as far
// ahead. The error is that the record is no JSON object.
func Redate(act []byte, now, simulated time.Time) ([]byte, error) {
	var fields map[string]any
	if err := json.Unmarshal(act, &fields); err != nil {
		return nil, fmt.Errorf("not an act: %w", err)
	}
	if fields == nil {
		return nil, errors.New("not an act: null")
	}
	fields["time"] = simulated.UTC().Format(time.RFC3339Nano)
	if text, ok := fields["until"].(string); ok {
		if until, err := time.Parse(time.RFC3339, text); err == nil {
			fields["until"] = simulated.Add(until.Sub(now)).UTC().Format(time.RFC3339)
		}
	}
	return json.Marshal(fields)
}
