package event

// CompareBool orders false before true, as cmp.Compare orders what has an order of its own.
func CompareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
