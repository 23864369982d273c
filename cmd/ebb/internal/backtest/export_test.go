package backtest

// For tests that run ebb beside a backtest.
var (
	AnOwnerLeaves = anOwnerLeaves
	PlainOnly     = plainOnly
	Replayed      = replayed
)
