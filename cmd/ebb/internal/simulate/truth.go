package simulate

import "time"

// Shape is the way in which a customer leaves.
type Shape string

// The shapes of leaving.
const (
	// Stays: the customer does not leave.
	Stays Shape = ""
	// Cliff: he stops everything from one day to the next.
	Cliff Shape = "cliff"
	// Leak: he comes less often and spends less, for five to ten weeks, and then no more.
	Leak Shape = "slow_leak"
	// Silent: he no longer uses what he pays for, pays a few more weeks out of habit, and then no more.
	Silent Shape = "silent"
	// Elsewhere: he still looks around but buys from somebody else.
	Elsewhere Shape = "buys_elsewhere"
	// Unanswered: he complains, nobody answers, he goes.
	Unanswered Shape = "unanswered_complaint"
	// Card: his card fails and he does not mend it.
	Card Shape = "failed_card"
	// Followed: he follows his account owner, who has left the company.
	Followed Shape = "followed_owner"
	// Cancelled: he says so, by cancelling.
	Cancelled Shape = "cancelled"
)

// Truth is what is true of one customer, known to the crowd alone.
type Truth struct {
	Customer string
	// Habit names how he buys: weekly, monthly, irregular, seasonal, prepaid.
	Habit string
	// Case names what makes him hard to judge, if anything: traveller, big_bill.
	Case   string
	Joined time.Time
	// Shape says how he leaves; Stays if he does not.
	Shape Shape
	// Begins is when his leaving can first be seen by anybody, Left when he is gone. Both may lie in the future; both are zero
	// if he stays.
	Begins, Left time.Time
	// Weekly is what he spends a week by habit, in cents.
	Weekly int64
}

// Leaves says whether the customer leaves, sooner or later.
func (t Truth) Leaves() bool { return t.Shape != Stays }

// Stated says whether the customer announces it himself, so that nobody has to find it.
func (t Truth) Stated() bool { return t.Shape == Cancelled }

// Outage is a time in which a feed brings nothing.
type Outage struct {
	Feed     Feed
	From, To time.Time
	// Lost says that what happened in it never arrives; otherwise it arrives after its end.
	Lost bool
}
