package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"ebb/cmd/ebb/internal/config"
	"ebb/cmd/ebb/internal/console"
	"ebb/stream/conn"
	"ebb/stream/kafkatest"
)

// The page reads the last operational steps of a partition, also where the topic's retention has deleted the first of them.
func TestOperationalAlertsAreShownBehindWhatRetentionDeleted(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	cluster, err := conn.New(conn.Config{Brokers: b.Addrs, Dial: b.Dial})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cfg := &config.Config{}
	cfg.Topics.Alerts, cfg.Topics.OpenAlerts, cfg.Topics.Operations = b.Name("alerts"), b.Name("open"), b.Name("operations")
	for _, topic := range []string{cfg.Topics.Alerts, cfg.Topics.OpenAlerts, cfg.Topics.Operations} {
		b.CreateTopic(t, topic, 1, nil)
	}
	fired := func(id string) {
		b.Produce(t, cfg.Topics.Operations, kafkatest.Record{Key: []byte(id), Value: fmt.Appendf(nil,
			`{"alert_id":%q,"revision":1,"status":"firing","step":"fired","detector":"feed_blind","severity":"critical","summary":"x","time":"2026-01-05T10:00:00Z"}`, id)})
	}
	fired("long ago")
	fired("before")
	if err := b.Fake.DeleteRecords(cfg.Topics.Operations, 0, 1); err != nil {
		t.Fatal(err)
	}
	p := &Page{book: console.NewBook(), log: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Follow(ctx, cfg, cluster, time.Now, nil) }()
	kafkatest.Eventually(t, "the one before", func() error { return shows(p, 1) })
	fired("after")
	kafkatest.Eventually(t, "the one after", func() error { return shows(p, 2) })
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func shows(p *Page, n int) error {
	if got := len(p.book.Operational()); got != n {
		return fmt.Errorf("%d operational alerts, want %d", got, n)
	}
	return nil
}
