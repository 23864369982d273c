package stream

// TaskKey is the key of the task records in a changelog. No customer id begins with a zero byte.
const TaskKey = taskKey

// TaskRecord is what a task record of a changelog says, for tools and tests.
type TaskRecord struct {
	Group, Cluster string
	Clock          int64            // ms of event time
	Quiet          bool             // history is applied without publishing
	Stopped        int64            // event time at which the task stopped for a fault, ms; 0 when it ran
	Positions      map[string]int64 // next offset to apply, by topic
}

// ReadTaskRecord decodes the value of a task record.
func ReadTaskRecord(value []byte) (TaskRecord, error) {
	r, err := decodeTaskRecord(value)
	if err != nil {
		return TaskRecord{}, err
	}
	out := TaskRecord{Group: r.group, Cluster: r.cluster, Clock: r.clock, Quiet: r.quiet, Stopped: r.stopped, Positions: map[string]int64{}}
	for i := range r.feeds {
		if f := &r.feeds[i]; f.topic != "" {
			out.Positions[f.topic] = f.position
		}
	}
	return out, nil
}
