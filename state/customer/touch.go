package customer

// Touch reads the ends of the record's windows and remembered ids, where the next event will read and write. The result means
// nothing. See state.Table.Warm.
func Touch(r *Record) (sum uint64) {
	if n := len(r.Usage); n != 0 {
		sum += uint64(r.Usage[n-1].Day)
	}
	if n := len(r.Spend); n != 0 {
		sum += uint64(r.Spend[n-1].key)
	}
	if n := len(r.Seen); n != 0 {
		sum += r.Seen[0].Hash + r.Seen[n-1].Hash
	}
	return sum
}
