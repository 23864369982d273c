package demo

import (
	"testing"
	"time"
)

func TestActsAreMovedToTheSimulatedTime(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	simulated := time.Date(2025, 12, 5, 13, 30, 0, 0, time.UTC)
	for act, want := range map[string]string{
		`{"id":"a","type":"snooze","time":"2026-11-22T07:59:58Z","until":"2026-11-29T08:00:00Z"}`: `{"id":"a","time":"2025-12-05T13:30:00Z","type":"snooze","until":"2025-12-12T13:30:00Z"}`,
		`{"id":"b","until":"soon"}`: `{"id":"b","time":"2025-12-05T13:30:00Z","until":"soon"}`,
		`{"id":"c"}`:                `{"id":"c","time":"2025-12-05T13:30:00Z"}`,
	} {
		if got, err := Redate([]byte(act), now, simulated); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", act, got, err)
		}
	}
	for _, bad := range []string{``, `[]`, `null`, `{"id":`} {
		if got, err := Redate([]byte(bad), now, simulated); err == nil {
			t.Errorf("%q: %s", bad, got)
		}
	}
}
