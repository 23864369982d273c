// Command testreport reads the event stream of one or more runs of `go test
// -json` and says what a person wants to know of it: a line for each package,
// the output of what failed, every test that was skipped with its reason, and
// the totals.
//
// A test that was skipped in one run and passed in another (the short pass
// under the race detector, say) was run, and is not listed as skipped. A skip
// that -require matches is a failure: with it nothing that has to be tested
// goes untested in silence. It refuses to call an empty stream a success.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	require := flag.String("require", "", "regular expression of skip reasons that count as failures (\".\" for all)")
	allow := flag.String("allow", "", "regular expression of skip reasons that are all right although -require matches")
	flag.Parse()
	required, err := newDemand(*require, *allow)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(2)
	}
	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.finish(required) {
		os.Exit(1)
	}
}
