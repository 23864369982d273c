package config

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"ebb/cmd/ebb/internal/webhook"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/detectors/hours"
	"ebb/stream/event"
)

var (
	groupName    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,200}$`)
	topicName    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)
	currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)
	headerName   = regexp.MustCompile(`^[A-Za-z0-9-]+$`)
	webhookName  = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)
)

// check looks for everything that can be wrong without asking a broker. Faults go to r.
func (r *reader) check(c *Config, src Source) {
	r.walk(reflect.ValueOf(c).Elem(), "")
	r.checkNames(c)
	r.checkBrokers(c)
	c.tls = r.checkSecurity(&c.Security, src)
	r.checkFeeds(c)
	r.checkTopics(c)
	r.checkReroute(c)
	r.checkMoney(&c.Money)
	r.checkCalendars(c, src)
	r.checkDetectors(c)
	r.checkCohorts(&c.Cohorts)
	r.checkBounds(c)
	r.checkHTTP(&c.HTTP)
	r.checkWebhooks(c.Webhooks, src)
}

// faulted is true when something at or below path is wrong already.
func (r *reader) faulted(path string) bool {
	return slices.ContainsFunc(r.faults, func(f Fault) bool {
		return f.Path == path || strings.HasPrefix(f.Path, path+".") || strings.HasPrefix(f.Path, path+"[")
	})
}

// walk checks the range, enum and required tags.
func (r *reader) walk(v reflect.Value, path string) {
	switch {
	case v.Kind() == reflect.Struct && !isScalarType(v.Type()):
		r.walkStruct(v, path)
	case v.Kind() == reflect.Slice && !isScalarType(v.Type()):
		for i := range v.Len() {
			r.walk(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

func (r *reader) walkStruct(v reflect.Value, path string) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		key, inline, ok := keyOf(sf)
		if !ok {
			continue
		}
		p := join(path, key)
		if inline {
			p = path
		}
		if span := sf.Tag.Get("range"); span != "" {
			r.checkRange(v.Field(i), p, span)
		}
		if enum := sf.Tag.Get("enum"); enum != "" {
			r.checkEnum(v.Field(i).String(), p, strings.Split(enum, "|"))
		}
		if sf.Tag.Get("required") == "true" && v.Field(i).IsZero() && !r.faulted(p) {
			r.faultAt(p, "is missing", "set "+p)
		}
		r.walk(v.Field(i), p)
	}
}

func (r *reader) checkRange(v reflect.Value, path, span string) {
	low, high, _ := strings.Cut(span, "..")
	if low != "" && compare(v, low) < 0 || high != "" && compare(v, high) > 0 {
		mend := "use " + spanText(span)
		if v.Type() == reflect.TypeFor[Bytes]() {
			mend += "; a number without a unit is bytes"
		}
		r.faultAt(path, text(v)+" is out of range", mend)
	}
}

// compare is the sign of v against a bound in v's own notation.
func compare(v reflect.Value, bound string) int {
	b := reflect.New(v.Type()).Elem()
	if err := setText(b, bound); err != nil {
		panic("range tag " + bound + ": " + err.Error())
	}
	if v.CanFloat() {
		return cmp.Compare(v.Float(), b.Float())
	}
	return cmp.Compare(v.Int(), b.Int())
}

func spanText(span string) string {
	low, high, _ := strings.Cut(span, "..")
	switch {
	case high == "":
		return low + " or more"
	case low == "":
		return high + " or less"
	}
	return low + " to " + high
}

func (r *reader) checkEnum(word, path string, allowed []string) {
	if slices.Contains(allowed, word) {
		return
	}
	mend := "use " + strings.Join(allowed, ", ")
	if near := nearest(word, allowed); near != "" {
		mend = "did you mean " + near + "?"
	}
	r.faultAt(path, strconv.Quote(word)+" is not allowed", mend)
}

func (r *reader) checkNames(c *Config) {
	if c.Group != "" && !groupName.MatchString(c.Group) {
		r.faultAt("group", strconv.Quote(c.Group)+" is not a group name", "use letters, digits, dot, dash and underscore, at most 200")
	}
	if _, err := time.LoadLocation(c.Time.Zone); err != nil || c.Time.Zone == "Local" || c.Time.Zone == "" {
		r.faultAt("time.zone", strconv.Quote(c.Time.Zone)+" is not a time zone", "use an IANA name such as UTC or Europe/Berlin")
	}
	if c.State.Dir == "" {
		r.faultAt("state.dir", "is empty", "name a folder that ebb may write to")
	}
}

func (r *reader) checkBrokers(c *Config) {
	var flat []string
	for i, b := range c.Brokers {
		// One reference may stand for several brokers: "${KAFKA_BROKERS}" with host:port,host:port.
		for part := range strings.SplitSeq(b, ",") {
			part = strings.TrimSpace(part)
			if fault := addressFault(part, false); fault != "" {
				r.faultAt(fmt.Sprintf("brokers[%d]", i), fmt.Sprintf("%q %s", part, fault), "write host:port, for example 127.0.0.1:9092")
			}
			flat = append(flat, part)
		}
	}
	c.Brokers = flat
	if r.at["brokers"] != nil && len(flat) == 0 && !r.faulted("brokers") {
		r.faultAt("brokers", "is empty", "name at least one broker as host:port")
	}
}

// addressFault says what is wrong with host:port; anyHost allows an empty host and port 0, to listen on.
func addressFault(s string, anyHost bool) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "is not an address"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || n == 0 && !anyHost:
		return "has no valid port"
	case host == "" && !anyHost:
		return "has no host"
	}
	return ""
}

// checkSecurity also builds the TLS settings, nil when TLS is off.
func (r *reader) checkSecurity(s *Security, src Source) *tls.Config {
	r.secret(&s.SASL.Password, &s.SASL.PasswordFile, "security.sasl.password", "security.sasl.password_file", src)
	login := s.SASL.Mechanism != "none"
	if r.faulted("security.sasl.mechanism") {
		return r.checkTLS(&s.TLS, src)
	}
	switch {
	case login && s.SASL.Username == "":
		r.faultAt("security.sasl", s.SASL.Mechanism+" needs a user name", "set security.sasl.username")
	case !login && s.SASL.Username != "":
		r.faultAt("security.sasl.username", "is set, but mechanism is none", "set security.sasl.mechanism to plain, scram-sha-256 or scram-sha-512")
	}
	if login && s.SASL.Password == "" && !r.faulted("security.sasl.password") && !r.faulted("security.sasl.password_file") {
		r.faultAt("security.sasl", s.SASL.Mechanism+" needs a password", "set security.sasl.password_file, or password: ${KAFKA_PASSWORD}")
	}
	return r.checkTLS(&s.TLS, src)
}

func (r *reader) checkTLS(t *TLS, src Source) *tls.Config {
	const path = "security.tls"
	for key, f := range map[string]*File{"ca_file": &t.CAFile, "cert_file": &t.CertFile, "key_file": &t.KeyFile} {
		if *f != "" && !t.Enabled {
			r.faultAt(path+"."+key, "is set, but TLS is off", "set security.tls.enabled: true")
		}
		r.resolve(f)
	}
	if !t.Enabled {
		return nil
	}
	if strings.ContainsAny(t.ServerName, ":/ ") {
		r.faultAt(path+".server_name", strconv.Quote(t.ServerName)+" is not a host name", "write the name without port")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, ok := r.readFile(t.CAFile, path+".ca_file", src)
		c.RootCAs = x509.NewCertPool()
		if ok && !c.RootCAs.AppendCertsFromPEM(pem) {
			r.faultAt(path+".ca_file", string(t.CAFile)+" holds no certificate", "name a PEM file with the authority's certificates")
		}
	}
	if own := r.ownCertificate(t, path, src); own != nil {
		c.Certificates = []tls.Certificate{*own}
	}
	return c
}

func (r *reader) ownCertificate(t *TLS, path string, src Source) *tls.Certificate {
	if (t.CertFile == "") != (t.KeyFile == "") {
		r.faultAt(path, "cert_file and key_file go together", "set both, or neither")
		return nil
	}
	if t.CertFile == "" {
		return nil
	}
	cert, ok1 := r.readFile(t.CertFile, path+".cert_file", src)
	key, ok2 := r.readFile(t.KeyFile, path+".key_file", src)
	if !ok1 || !ok2 {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		r.faultAt(path+".cert_file", "does not fit key_file: "+err.Error(), "name the PEM files of one certificate and its key")
		return nil
	}
	return &pair
}

func (r *reader) readFile(f File, path string, src Source) ([]byte, bool) {
	b, err := src.ReadFile(string(f))
	if err != nil {
		r.faultAt(path, fmt.Sprintf("%s cannot be read: %s", f, reason(err)), "name a file that the user who runs ebb may read")
	}
	return b, err == nil
}

func (r *reader) checkFeeds(c *Config) {
	f := &c.Feeds
	if f.Usage.Topic == "" && f.Payments.Topic == "" && f.Complaints.Topic == "" && !r.faulted("feeds") {
		r.faultAt("feeds", "names no topic to judge customers by", "set feeds.usage.topic, feeds.payments.topic or feeds.complaints.topic")
	}
	for _, n := range c.Feeds.Read() {
		path := "feeds." + n.Role.String()
		r.checkTopic(n.Topic, path+".topic")
		r.checkMapping(n, path+".mapping")
	}
}

// checkReroute: a record can be forwarded only where it is known whither, and through which topic.
func (r *reader) checkReroute(c *Config) {
	if c.Topics.Reroute != "" && c.Partitioner == "none" {
		r.faultAt("topics.reroute", "needs a partitioner: without one nobody knows where a record belongs", "set partitioner to murmur2 or crc32")
	}
	if len(c.Feeds.Keyed()) == 0 && len(c.Feeds.Read()) != 0 {
		r.faultAt("feeds", "are all rerouted", "leave reroute out of one that is keyed by customer: its partitions are those of the state")
	}
	for _, n := range c.Feeds.Read() {
		if path := "feeds." + n.Role.String() + ".reroute"; n.Reroute && c.Topics.Reroute == "" {
			r.faultAt(path, "needs a topic to forward the records through", "set topics.reroute, for example to "+c.Group+"-reroute")
		}
	}
}

func (r *reader) checkTopic(name, path string) {
	if !topicName.MatchString(name) || name == "." || name == ".." {
		r.faultAt(path, strconv.Quote(name)+" is not a topic name", "use letters, digits, dot, dash and underscore, at most 249")
	}
}

func (r *reader) checkTopics(c *Config) {
	seen := map[string]string{}
	once := func(name, path string) {
		if first := seen[name]; first != "" && name != "" {
			r.faultAt(path, fmt.Sprintf("%s is %s already", name, first), "use a topic of its own")
			return
		}
		seen[name] = path
	}
	for _, n := range c.Feeds.Read() {
		once(n.Topic, "feeds."+n.Role.String()+".topic")
	}
	for _, t := range []struct{ name, path string }{
		{c.Topics.Alerts, "topics.alerts"},
		{c.Topics.OpenAlerts, "topics.open_alerts"},
		{c.Topics.Operations, "topics.operations"},
		{c.Topics.Changelog, "topics.changelog"},
		{c.Topics.DeadLetters, "topics.dead_letters"},
		{c.Topics.Reroute, "topics.reroute"},
		{c.Topics.Facts, "topics.facts"},
		{c.Topics.FactsChangelog(), "topics.facts"},
	} {
		if t.name == "" && t.path == "topics.reroute" {
			continue
		}
		// A name that is derived from the group is right if the group is.
		if r.at[t.path] != nil || c.Group != "" && !r.faulted("group") {
			r.checkTopic(t.name, t.path)
			once(t.name, t.path)
		}
	}
	if c.Topics.ReplicationFactor == 0 {
		r.faultAt("topics.replication_factor", "0 is out of range", "use 1 or more, or -1 for the broker's default")
	}
}

func (r *reader) checkMoney(m *Money) {
	if !currencyCode.MatchString(m.Currency) {
		r.faultAt("money.currency", strconv.Quote(m.Currency)+" is not a currency code", "use three capital letters, as in EUR")
	}
	for code, rate := range m.Rates {
		path := "money.rates." + code
		switch {
		case !currencyCode.MatchString(code):
			r.faultAt(path, strconv.Quote(code)+" is not a currency code", "use three capital letters, as in USD")
		case code == m.Currency:
			r.faultAt(path, code+" is the reporting currency", "take it out; its rate is 1")
		case !r.faulted(path):
			if _, err := detectors.NewRates("XXX", map[string]string{code: rate}); err != nil {
				r.faultAt(path, strconv.Quote(rate)+" is not a rate", "write what one "+code+" is worth in "+m.Currency+", as a decimal above 0 such as 0.92")
			}
		}
	}
}

// checkCalendars makes the calendars, files included.
func (r *reader) checkCalendars(c *Config, src Source) {
	c.Detectors.Calendars, c.calendarFiles = map[string]*hours.Calendar{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Calendars)) {
		x, path := c.Calendars[name], "calendars."+name
		var content []byte
		if x.File != "" {
			r.resolve(&x.File)
			c.Calendars[name] = x
			var ok bool
			if content, ok = r.readFile(x.File, path+".file", src); !ok {
				content = nil
			}
			sum := sha256.Sum256(content)
			c.calendarFiles[name] = hex.EncodeToString(sum[:])
		}
		calendar, err := hours.New(name, x.Config, string(x.File), content)
		for _, e := range unjoin(err) {
			var f *hours.FieldError
			at := path
			if errors.As(e, &f) && f.Field != "" {
				at = join(path, f.Field)
			}
			if !r.faulted(at) {
				r.faultErr(r.position(at), at, errors.New(f.Message))
			}
		}
		c.Detectors.Calendars[name] = calendar // nil where it is faulty: that it is named is no second fault
	}
}

// checkDetectors has the detectors check their own numbers.
func (r *reader) checkDetectors(c *Config) {
	d := c.Detectors
	// What stands elsewhere in the file has a range of its own there.
	d.Horizon, d.KeptDays = detectors.Defaults().Horizon, max(d.KeptDays, detectors.Defaults().KeptDays)
	for _, e := range unjoin(d.Validate()) {
		var f *detectors.FieldError
		switch {
		case !errors.As(e, &f):
			r.faultErr(r.position("detectors"), "detectors", e)
		case strings.HasPrefix(f.Field, "tiers"):
			r.faultErr(r.position(f.Field), f.Field, errors.New(f.Message))
		case r.faulted("detectors." + f.Field), f.Field == "lapse_after" && r.faulted("alerts.lapse_after"):
		default:
			r.faultErr(r.position("detectors."+f.Field), "detectors."+f.Field, errors.New(f.Message))
		}
	}
}

func (r *reader) checkCohorts(c *Cohorts) {
	seen := map[string]bool{}
	for i, name := range c.By {
		path := fmt.Sprintf("cohorts.by[%d]", i)
		switch _, ok := cohorts.ParseDimension(name); {
		case !ok:
			r.faultAt(path, strconv.Quote(name)+" makes no cohorts", "use segment, region, product or owner")
		case seen[name]:
			r.faultAt(path, name+" stands twice", "leave one of them out")
		}
		seen[name] = true
	}
}

func (r *reader) checkBounds(c *Config) {
	if c.DeadLetters.BlindRatio > c.DeadLetters.StopRatio {
		r.faultAt("dead_letters.stop_ratio", "is below blind_ratio", "make it at least as large")
	}
	m := &c.Membership
	if m.Heartbeat*3 > m.SessionTimeout {
		r.faultAt("membership.heartbeat", m.Heartbeat.String()+" is too rare for a session_timeout of "+m.SessionTimeout.String(), "use at most a third of it")
	}
	if m.Drain >= m.RebalanceTimeout {
		r.faultAt("membership.drain", m.Drain.String()+" is not shorter than rebalance_timeout", "use less than "+m.RebalanceTimeout.String())
	}
	if c.Fetch.PartitionMaxBytes > c.Fetch.MaxBytes {
		r.faultAt("fetch.partition_max_bytes", c.Fetch.PartitionMaxBytes.String()+" is more than max_bytes", "use at most "+c.Fetch.MaxBytes.String())
	}
	if after := c.Alerts.RemindAfter; after != 0 && after.Std() < time.Hour {
		r.faultAt("alerts.remind_after", after.String()+" is too short", "use 1h or more, or 0s for no reminders")
	}
	if c.Alerts.ForgetAfter < c.Alerts.LapseAfter {
		r.faultAt("alerts.forget_after", c.Alerts.ForgetAfter.String()+" is shorter than lapse_after", "make it at least "+c.Alerts.LapseAfter.String())
	}
}

func (r *reader) checkHTTP(h *HTTP) {
	if h.Listen == "" {
		return
	}
	if fault := addressFault(h.Listen, true); fault != "" {
		r.faultAt("http.listen", fmt.Sprintf("%q %s", h.Listen, fault), "write host:port, for example 127.0.0.1:9464")
	}
}

func (r *reader) checkWebhooks(hooks []Webhook, src Source) {
	seen := map[string]bool{}
	for i := range hooks {
		h, path := &hooks[i], fmt.Sprintf("webhooks[%d]", i)
		r.secret(&h.Secret, &h.SecretFile, path+".secret", path+".secret_file", src)
		if h.Name != "" && !webhookName.MatchString(h.Name) {
			r.faultAt(path+".name", strconv.Quote(h.Name)+" is not a name", "use small letters, digits and dash, at most 40")
		}
		if seen[h.Name] && h.Name != "" {
			r.faultAt(path+".name", h.Name+" stands twice", "give each webhook a name of its own")
		}
		seen[h.Name] = true
		if u, err := url.Parse(h.URL); h.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			r.faultAt(path+".url", strconv.Quote(h.URL)+" is not a web address", "write https://host/path")
		}
		for name, value := range h.Headers {
			switch at := path + ".headers." + name; {
			case !headerName.MatchString(name):
				r.faultAt(at, strconv.Quote(name)+" is not the name of a header", "use letters, digits and dash, as in Authorization")
			case webhook.Reserved(name):
				r.faultAt(at, "is set by ebb itself", "take it out")
			case strings.ContainsFunc(value.Value(), func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
				r.faultAt(at, "has a line end or another control character in it", "take that out: no request can be sent with it")
			}
		}
		if h.Secret == "" && !r.faulted(path+".secret") && !r.faulted(path+".secret_file") {
			r.faultAt(path, "has no key to sign with", "set secret_file, or secret: ${NAME}")
		}
	}
}

// checkMapping compiles the feed's mapping as the task will, so that its faults show here.
func (r *reader) checkMapping(n Named, path string) {
	if n.Mapping == nil {
		return
	}
	_, err := event.NewDecoder(n.Role, n.Mapping, event.Limits{})
	for _, e := range unjoin(err) {
		var m *event.MappingError
		if !errors.As(e, &m) {
			r.faultErr(r.position(path), path, e)
			continue
		}
		at := path
		for _, key := range m.Path {
			at = join(at, key)
		}
		if !r.faulted(at) {
			r.faultErr(r.position(at), at, errors.New(m.Message))
		}
	}
}

// unjoin lists the errors of errors.Join.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range j.Unwrap() {
			all = append(all, unjoin(e)...)
		}
		return all
	}
	return []error{err}
}
