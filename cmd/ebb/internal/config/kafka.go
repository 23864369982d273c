package config

import (
	"ebb/stream/admin"
	"ebb/stream/conn"
)

// Connection is how the cluster is reached. The dialer is the caller's to set.
func (c *Config) Connection() conn.Config {
	k := conn.Config{Brokers: c.Brokers, ClientID: c.ClientID, TLS: c.tls.Clone()}
	if c.Security.SASL.Mechanism != "none" {
		k.SASL = &conn.SASL{
			Mechanism: c.Security.SASL.Mechanism,
			Username:  c.Security.SASL.Username,
			Password:  c.Security.SASL.Password.Value(),
		}
	}
	return k
}

// TopicSpec is what ebb needs of the cluster's topics and rights.
func (c *Config) TopicSpec() admin.Spec {
	s := admin.Spec{
		Group:               c.Group,
		ConfigFile:          c.file,
		User:                c.Security.SASL.Username,
		TransactionalID:     c.Group + "-0",
		Alerts:              c.Topics.Alerts,
		OpenAlerts:          c.Topics.OpenAlerts,
		Operations:          c.Topics.Operations,
		Changelog:           c.Topics.Changelog,
		DeadLetters:         c.Topics.DeadLetters,
		Reroute:             c.Topics.Reroute,
		Facts:               c.Topics.Facts,
		FactsChangelog:      c.Topics.FactsChangelog(),
		ReplicationFactor:   c.Topics.ReplicationFactor,
		AlertPartitions:     c.Topics.AlertPartitions,
		AlertRetention:      c.Topics.AlertRetention.Std(),
		DeadLetterRetention: c.Topics.DeadLetterRetention.Std(),
		MaxRecordBytes:      int(c.DeadLetters.MaxRecordBytes),
	}
	for _, f := range c.Feeds.Read() {
		s.Feeds = append(s.Feeds, admin.Feed{Role: f.Role.String(), Topic: f.Topic, Rerouted: f.Reroute})
	}
	return s
}
