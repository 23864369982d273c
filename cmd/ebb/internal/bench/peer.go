//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// peerPart runs one part of the peer's own script, for the cases that hold name, and keeps its answer.
func (b *bench) peerPart(part, name string) func(context.Context, *result) error {
	return func(ctx context.Context, res *result) error {
		if !b.peer {
			return nil
		}
		b.log.Info("Kafka Streams", "part", part, "case", name)
		cmd := exec.CommandContext(ctx, filepath.Join(b.peers, "run-peer"),
			"-events", fmt.Sprint(b.events), "-customers", fmt.Sprint(b.customers), "-partitions", fmt.Sprint(b.partitions), "-prefix", b.prefix,
			"-rate", fmt.Sprint(b.rate), "-seconds", fmt.Sprint(b.seconds), "-only", name, part)
		cmd.Env = append(os.Environ(), "KAFKA_BROKERS="+b.brokers, "BENCH_TMP="+filepath.Join(b.tmp, "peer"))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("run-peer %s: %w", part, err)
		}
		return res.takePeer(part, out)
	}
}

// takePeer reads what run-peer prints: an object with a member for the part, which has one for each case.
func (r *result) takePeer(part string, out []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(out, &all); err != nil {
		return fmt.Errorf("what run-peer printed: %w", err)
	}
	if part == "drain" {
		return one(all[part], &r.Drain.Peer, &r.Drain.PeerCase)
	}
	return one(all[part], &r.Latency.Peer, &r.Latency.PeerCase)
}

// one takes the only case of a part.
func one[T any](body json.RawMessage, into **T, name *string) error {
	cases := map[string]*T{}
	if err := json.Unmarshal(body, &cases); err != nil {
		return fmt.Errorf("what run-peer printed: %w", err)
	}
	if len(cases) != 1 {
		return fmt.Errorf("run-peer ran %d cases, want one; name it in full", len(cases))
	}
	for n, c := range cases {
		*name, *into = n, c
	}
	return nil
}
