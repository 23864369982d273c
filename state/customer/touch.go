package customer

// Touch reads the ends of the record's windows and remembered ids, and what is learnt of the customer, where the next event will read and write. The result means
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
	if h := r.rhythms; h != nil {
		sum += h.Purchases.SumGapSquares + h.Activity.SumGapSquares + uint64(h.plan.Ask)
	}
	if d := r.drops; d != nil {
		sum += uint64(d.Spend.last) + uint64(d.Usage.last) + uint64(d.plans[0].Ask)
	}
	return sum
}
