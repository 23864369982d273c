package backtest

// For tests that run ebb beside a backtest.
type Story = story

var (
	AnOwnerLeaves = anOwnerLeaves
	PlainOnly     = plainOnly
	Replayed      = replayed
)
