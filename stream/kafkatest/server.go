package kafkatest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// ports of one broker's listeners.
type ports struct{ plain, controller, sasl, mtls int }

// pickPorts asks the kernel for free ports. They may be taken before the broker binds them: start tries again.
func pickPorts() (ports, error) {
	var p ports
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	for _, at := range []*int{&p.plain, &p.controller, &p.sasl, &p.mtls} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return p, err
		}
		open = append(open, l)
		*at = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

// Users of the SASL_SSL listener. Limited may log in, and may do nothing else.
func superLogin(mechanism string) *Login {
	return &Login{Mechanism: mechanism, Username: "ebb", Password: "ebb-secret"}
}

func limitedLogin(mechanism string) *Login {
	return &Login{Mechanism: mechanism, Username: "limited", Password: "limited-secret"}
}

func scramUsers() []*Login {
	return []*Login{superLogin("SCRAM-SHA-512"), limitedLogin("SCRAM-SHA-512")}
}

func plainUsers() string {
	var b strings.Builder
	for _, u := range scramUsers() {
		fmt.Fprintf(&b, ` user_%s="%s"`, u.Username, u.Password)
	}
	return b.String()
}

// writeProperties writes the configuration of a single node with a plaintext listener, one with SASL over TLS and one with mutual TLS.
// What extra says goes before it; an empty value takes a property out.
func writeProperties(dir string, p ports, extra map[string]string) error {
	props := map[string]string{
		"process.roles":                      "broker,controller",
		"node.id":                            "1",
		"controller.quorum.voters":           fmt.Sprintf("1@127.0.0.1:%d", p.controller),
		"listeners":                          fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d,SASL_SSL://127.0.0.1:%d,SSL://127.0.0.1:%d", p.plain, p.controller, p.sasl, p.mtls),
		"advertised.listeners":               fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,SASL_SSL://127.0.0.1:%d,SSL://127.0.0.1:%d", p.plain, p.sasl, p.mtls),
		"listener.security.protocol.map":     "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
		"controller.listener.names":          "CONTROLLER",
		"inter.broker.listener.name":         "PLAINTEXT",
		"log.dirs":                           filepath.Join(dir, "data"),
		"num.partitions":                     "1",
		"auto.create.topics.enable":          "true", // the default, and a trap that tests must be able to fall into
		"default.replication.factor":         "1",
		"min.insync.replicas":                "1",
		"offsets.topic.replication.factor":   "1",
		"offsets.topic.num.partitions":       "4",
		"transaction.state.log.min.isr":      "1",
		"group.initial.rebalance.delay.ms":   "0",
		"broker.session.timeout.ms":          "2000", // a killed broker's registration must expire before it may start again
		"broker.heartbeat.interval.ms":       "500",
		"log.cleaner.backoff.ms":             "200",
		"log.initial.task.delay.ms":          "200",
		"log.retention.check.interval.ms":    "1000",
		"log.retention.ms":                   "-1", // records with the times of a history would be deleted at once
		"log.cleaner.dedupe.buffer.size":     "4194304",
		"num.network.threads":                "2",
		"num.io.threads":                     "4",
		"authorizer.class.name":              "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":                        "User:ANONYMOUS;User:ebb;User:CN=ebb",
		"sasl.enabled.mechanisms":            "PLAIN,SCRAM-SHA-512",
		"group.min.session.timeout.ms":       "500",
		"group.coordinator.append.linger.ms": "0",

		"transaction.state.log.replication.factor":                    "1",
		"transaction.state.log.num.partitions":                        "4",
		"transaction.abort.timed.out.transaction.cleanup.interval.ms": "200",
		"listener.name.sasl_ssl.plain.sasl.jaas.config":               "org.apache.kafka.common.security.plain.PlainLoginModule required" + plainUsers() + ";",
		"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config":       "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"ssl.keystore.type":                 "PEM",
		"ssl.keystore.location":             filepath.Join(dir, "server.pem"),
		"ssl.truststore.type":               "PEM",
		"ssl.truststore.location":           filepath.Join(dir, "ca.crt"),
		"listener.name.ssl.ssl.client.auth": "required",
	}
	for k, v := range extra {
		if props[k] = v; v == "" {
			delete(props, k)
		}
	}
	keys := make([]string, 0, len(props))
	for k := range props {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s=%s\n", k, props[k])
	}
	return os.WriteFile(filepath.Join(dir, "server.properties"), []byte(b.String()), 0o644)
}

// writeCertificates makes an authority, the server's certificate, and a client's (CN=ebb) for mutual TLS.
func writeCertificates(dir string) error {
	ca, err := makeAuthority()
	if err != nil {
		return err
	}
	server, err := ca.makeCertificate("localhost")
	if err != nil {
		return err
	}
	client, err := ca.makeCertificate("ebb")
	if err != nil {
		return err
	}
	sc, sk, err := pemPair(server)
	if err != nil {
		return err
	}
	cc, ck, err := pemPair(client)
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{
		"ca.crt": ca.pem(), "server.pem": append(append([]byte{}, sk...), sc...), "server.crt": sc, "client.crt": cc, "client.key": ck,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
