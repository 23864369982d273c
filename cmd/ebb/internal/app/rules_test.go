package app

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/cmd/ebb/internal/config"
	"ebb/detectors"
)

// The page tells of every configured detector once, in the version that its alerts bear and by the method that is configured.
func TestRulesTellOfEveryDetector(t *testing.T) {
	for _, method := range []string{detectors.Model, detectors.Plain} {
		cfg := config.Default()
		cfg.Money.Currency = "EUR"
		cfg.Detectors.Silence.Method, cfg.Detectors.SpendDrop.Method = method, method
		for _, on := range []*bool{&cfg.Detectors.Outflow.Enabled, &cfg.Detectors.PartialLapse.Enabled, &cfg.Detectors.UsageDrop.Enabled} {
			*on = true
		}
		set, err := detectorSet(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		want := append(slices.Clone(set.Names()), alerts.CohortDropName, alerts.PoorIntakeName, alerts.TotalSpendName, alerts.TotalOutflowName)
		var got []string
		for _, r := range rules(&cfg, set) {
			got = append(got, r.Detector)
			if d := set.Detector(r.Detector); d != nil && r.Version != d.Version() || r.Version == "" {
				t.Errorf("%s has version %q on the page", r.Detector, r.Version)
			}
			if r.Sentence == "" || strings.Contains(r.Sentence, "%!") {
				t.Errorf("%s: %q", r.Detector, r.Sentence)
			}
			if r.Detector == detectors.SilenceName && strings.Contains(r.Sentence, "rhythm") != (method == detectors.Model) {
				t.Errorf("by the method %s: %q", method, r.Sentence)
			}
			if testing.Verbose() {
				t.Logf("%s %s: %s %v", r.Detector, r.Version, r.Sentence, r.Thresholds)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("told of %v, configured are %v", got, want)
		}
	}
}

func TestDurationsAreSpelledForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "no time", 60 * 24 * time.Hour: "60 days", 24 * time.Hour: "1 day", 60 * time.Hour: "2 days 12 hours", 90 * time.Minute: "1 hour 30 minutes", time.Second: "1 second",
	} {
		if got := spelled(detectors.Duration(d)); got != want {
			t.Errorf("%s is spelled %q, want %q", d, got, want)
		}
	}
}
