//go:build linux

package main

import (
	"testing"

	"ebb/cmd/ebb/internal/config"
)

// TestBenchConfig: the configuration of the bench is one that ebb accepts, and asks for what the contract says.
func TestBenchConfig(t *testing.T) {
	vars := map[string]string{"KAFKA_BROKERS": "127.0.0.1:9092", "BENCH_PREFIX": "p_", "BENCH_GROUP": "g", "BENCH_STANDBY": "1", "BENCH_SESSION": "20s", "STATE_DIR": t.TempDir()}
	cfg, err := config.Load("../../../../docs/examples/bench.yaml", config.Source{Env: func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Group != "g" || cfg.Topics.Alerts != "p_alerts" || cfg.Feeds.Usage.Topic != "p_usage" || cfg.History != "publish" || cfg.Time.MaxOutOfOrder != 0 {
		t.Errorf("group, topics, history or time are not the contract's: %+v", cfg)
	}
	if got := cfg.Topics.Changelog + " " + cfg.Topics.OpenAlerts + " " + cfg.Topics.Operations + " " + cfg.Topics.DeadLetters; got != "g-changelog g-alerts-open g-operations g-dlq" {
		t.Errorf("internal topics: got %s", got)
	}
	if cfg.Standby != 1 || cfg.Membership.SessionTimeout.String() != "20s" {
		t.Errorf("standby copies and session: got %d and %v", cfg.Standby, cfg.Membership.SessionTimeout)
	}
	d := cfg.Detectors
	if !d.Silence.Enabled || d.Silence.After.String() != "14d" || d.Silence.GapMultiple != 0 {
		t.Errorf("silence: got %+v, want 14 days for everybody", d.Silence)
	}
	if ms, on := d.ComplaintUnresolved.Resolution.Critical.Limit(); !on || ms != 0 {
		t.Errorf("critical complaints: got %d ms, %v; want at once", ms, on)
	}
	if _, on := d.ComplaintUnresolved.FirstResponse.Normal.Limit(); on {
		t.Error("first response: got a target, want none")
	}
	if !d.SpendDrop.Enabled || d.SpendDrop.CriticalBelowPercent != 0 || d.SpendDrop.MinWeekly.String() != "10.00" {
		t.Errorf("spend_drop: got %+v", d.SpendDrop)
	}
}
