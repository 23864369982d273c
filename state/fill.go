package state

// fill replaces the content of the store by a whole replayed changelog. A crash on the way leaves a store without
// a position: the next restore begins at the beginning, and its fill throws away what lies there.
func (s *localStore) fill(r *Restored, quit <-chan struct{}) error {
	s.writing.take()
	defer s.writing.give()
	floor := int64(NoHour)
	if len(r.img.timers) > 0 {
		floor = Hour(r.img.timers[0].at)
	}
	err := s.db.bulk(func(add func(key, value []byte) error) error {
		room := 0
		checked := func(key, value []byte) error {
			if s.stop.Load() || closed(quit) {
				return ErrClosed
			}
			if room -= len(key) + len(value); room < 0 {
				room = roomEvery
				if err := s.db.room(); err != nil {
					return err
				}
			}
			return add(key, value)
		}
		if err := s.fillCustomers(r.img, checked); err != nil {
			return err
		}
		return s.fillTimers(r.img, checked)
	})
	if err != nil {
		return err
	}
	s.ops, s.arena = s.ops[:0], s.arena[:0]
	defer func() { clear(s.ops) }()
	if s.piece > 0 {
		s.add(prefixMeta, metaEpoch, number8(int64(s.epoch)))
	}
	if floor == NoHour {
		floor = 0
	}
	s.add(prefixMeta, metaFloor, number8(floor))
	b := &Batch{behind: r.behind}
	if r.task != nil {
		b.SetMeta(MetaTask, r.task)
	}
	b.SetPosition(r.next)
	s.floor.Store(floor)
	s.highest = max(s.highest, floor)
	s.addMeta(b)
	if err := s.commitAll(quit); err != nil {
		return err
	}
	s.begun, s.highest = s.piece > 0, floor
	s.db.note(r.next)
	return nil
}

// roomEvery is how many bytes are written in bulk between two looks at the free space.
const roomEvery = 1 << 20

func (s *localStore) fillCustomers(m *image, add func(key, value []byte) error) error {
	var key []byte
	for _, k := range m.sorted() {
		id, value := m.at(k.chunk, k.off)
		if value == nil {
			continue // there is nothing beneath to take back
		}
		key = append(append(key[:0], prefixCustomer), id...)
		if err := add(key, value); err != nil {
			return err
		}
	}
	return nil
}

// fillTimers packs the timer entries into the pieces of their buckets.
func (s *localStore) fillTimers(m *image, add func(key, value []byte) error) error {
	var key, value []byte
	for i := 0; i < len(m.timers); {
		hour := Hour(m.timers[i].at)
		value = value[:0]
		for ; i < len(m.timers) && Hour(m.timers[i].at) == hour && len(value) < chunkBytes; i++ {
			id, _ := m.at(m.timers[i].chunk, m.timers[i].off)
			value = appendTimer(value, hour, Timer{m.timers[i].at, unsafeString(id)})
		}
		key = timerKey(key[:0], hour, uint64(s.epoch)<<32|uint64(s.piece))
		s.piece++
		if err := add(key, value); err != nil {
			return err
		}
	}
	return nil
}
