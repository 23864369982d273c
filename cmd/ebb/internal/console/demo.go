package console

import "time"

// Demo is what the page shows and offers beyond the engine when the customers are simulated. It is asked from many goroutines.
type Demo interface {
	State() DemoState
	// Act presses a button: one of DemoState.Acts by name, or speed, or truth with the value wanted. An error is shown.
	Act(name, value string) error
	// Truth tells what is true of a simulated customer; false if he is not known.
	Truth(customer string) (Truth, bool)
}

// Phases of a demo.
const (
	PhaseFilling = "filling" // the history is being written to the topics
	PhaseReading = "reading" // the engine reads the history
	PhaseLive    = "live"
	PhaseEnded   = "ended"
)

// DemoState is what the demo's panel shows.
type DemoState struct {
	Seed  uint64
	Phase string
	// Progress is that of the phase, 0 to 1.
	Progress         float64
	Start, LiveStart time.Time
	Now              time.Time
	// Speed is simulated days a second, 0 while it stands still; Speeds are those on offer.
	Speed  float64
	Speeds []float64
	// ShowTruth says whether pages show who really left.
	ShowTruth bool
	// Leavers is how many have left so far and could have been found, within the scored time.
	Leavers int
	// Ebb and Usual are the scores of ebb's alerts and of the rule that most companies use.
	Ebb, Usual Score
	UsualRule  string
	// HorizonDays is the time after which somebody without a purchase counts as lost, for the days ahead.
	HorizonDays int
	Currency    string
	Days        []ScoreDay
	Acts        []Act
	// Config is the configuration file with which commands of another terminal work on the demo; empty: there is none.
	Config string
}

// Score counts alerts against the truth.
type Score struct {
	Alerts int
	// Found and Missed count customers who left; Pending those who left so lately that an alert may still come.
	Found, Missed, Pending int
	// Right and FalseAlarms count alerts.
	Right, FalseAlarms int
	// DaysAhead is the median number of days between the first right alert of a customer and the day he would have counted as
	// lost; meaningful if Found is not 0.
	DaysAhead float64
	// MoneyFound is what the found ones would have spent within the horizon, in the demo's currency, in 1/100.
	MoneyFound int64
	ByDetector []DetectorScore
}

// DetectorScore is a Score's line for one detector.
type DetectorScore struct {
	Detector                   string
	Alerts, Right, FalseAlarms int
}

// ScoreDay is how the scores stood at the end of a simulated day.
type ScoreDay struct {
	Day                                        time.Time
	Leavers                                    int
	Found, FalseAlarms, UsualFound, UsualFalse int
}

// Act is a button: something done to the engine or to its feeds. It says what should happen, then what did.
type Act struct {
	Name  string
	Label string
	// Active says that it is going on, such as a feed that is stopped.
	Active bool
	// Disabled says why it cannot be pressed now.
	Disabled string
	Should   string
	// Did is empty until there is something to tell; Good says whether it is what should have happened.
	Did  string
	Good bool
}

// Truth is what is true of a simulated customer.
type Truth struct {
	// Leaves is false for one who stays.
	Leaves bool
	Shape  string
	// Begins is when his leaving can first be seen, Left when he is gone; both may lie in the future.
	Begins, Left time.Time
	Habit, Case  string
}
