package config

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"reflect"

	"ebb/detectors"
)

// Hash names the parts of the configuration that decide what becomes an alert: SHA-256, in hex, over their printed form. It
// stands in every alert as config_hash. Where things lie and how fast they run (brokers, logins, folders, topic names,
// bounds of transactions) has no part in it, so the same rules have the same hash in every cluster.
func (c *Config) Hash() string {
	if c.hash == "" {
		return hash(c)
	}
	return c.hash
}

// Rehash names the configuration anew after it was changed.
func (c *Config) Rehash() {
	c.derive()
	c.hash = hash(c)
}

func hash(c *Config) string {
	feeds := c.Feeds
	for _, f := range []*Feed{&feeds.Usage, &feeds.Payments, &feeds.Complaints, &feeds.Customers, &feeds.Control} {
		if f.Topic != "" {
			f.Topic = "read"
		}
	}
	calendars := maps.Clone(c.Calendars)
	for name, x := range calendars { // what the file holds decides, not where it lies
		x.File = ""
		calendars[name] = x
	}
	deciding := struct {
		Group       string              `yaml:"group"`
		KeptDays    int                 `yaml:"kept_days"`
		History     string              `yaml:"history"`
		Time        Time                `yaml:"time"`
		Feeds       Feeds               `yaml:"feeds"`
		Money       Money               `yaml:"money"`
		Tiers       []string            `yaml:"tiers"`
		Calendars   map[string]Calendar `yaml:"calendars"`
		Files       map[string]string   `yaml:"calendar_files"`
		Detectors   detectors.Config    `yaml:"detectors"`
		Cohorts     Cohorts             `yaml:"cohorts"`
		Alerts      Alerts              `yaml:"alerts"`
		Stall       Stall               `yaml:"stall"`
		DeadLetters DeadLetters         `yaml:"dead_letters"`
	}{c.Group, c.State.KeptDays, c.History, c.Time, feeds, c.Money, c.Tiers, calendars, c.calendarFiles, c.Detectors, c.Cohorts, c.Alerts, c.Stall, c.DeadLetters}
	var p printer
	p.structure(reflect.ValueOf(&deciding).Elem(), "")
	sum := sha256.Sum256(p.buf.Bytes())
	return hex.EncodeToString(sum[:])
}
