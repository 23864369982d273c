package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ebb/cmd/ebb/internal/config"
)

// errFaults is the error of config check after it has printed the faults.
var errFaults = errors.New("the configuration has faults")

func (c *CLI) config() *cobra.Command {
	return group(
		"config", "Check, print or describe the configuration",
		"  ebb config check -c ebb.yaml\n  ebb config print -c ebb.yaml\n  ebb config schema > ebb.schema.json",
		c.configCheck(), c.configPrint(), c.configSchema(),
	)
}

func (c *CLI) configCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Name everything that is wrong with the configuration file",
		Long: `check reads the file as run would, with its environment references and secret files,
and names every fault with line, column and what to do. It asks no broker; ebb topics
check does.`,
		Example: "  ebb config check\n  ebb config check -c /etc/ebb/ebb.yaml --output json",
		Args:    cobra.NoArgs,
	}
	path, asJSON := file(cmd), output(cmd)
	cmd.RunE = work(func(*cobra.Command) error {
		_, err := config.Load(*path, c.deps.Config)
		var faults config.Faults
		if err != nil && !errors.As(err, &faults) {
			return err
		}
		if asJSON() {
			err = writeJSON(c.deps.Stdout, struct {
				OK     bool          `json:"ok"`
				Faults config.Faults `json:"faults"`
			}{len(faults) == 0, append(config.Faults{}, faults...)})
		} else if len(faults) > 0 {
			_, err = fmt.Fprintln(c.deps.Stdout, faults.Error())
		} else {
			_, err = fmt.Fprintln(c.deps.Stdout, *path+": ok")
		}
		if err == nil && len(faults) > 0 {
			return errFaults
		}
		return err
	})
	return cmd
}

func (c *CLI) configPrint() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print the configuration in force: every key, defaults too, secrets masked",
		Example: `  ebb config print
  ebb config print -c /etc/ebb/ebb.yaml | less`,
		Args: cobra.NoArgs,
	}
	path := file(cmd)
	cmd.RunE = work(func(*cobra.Command) error {
		cfg, err := config.Load(*path, c.deps.Config)
		if err != nil {
			return err
		}
		return cfg.Print(c.deps.Stdout)
	})
	return cmd
}

func (c *CLI) configSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file, for editors",
		Example: `  ebb config schema > ebb.schema.json
  # then, as the first line of ebb.yaml:
  # yaml-language-server: $schema=ebb.schema.json`,
		Args: cobra.NoArgs,
		RunE: work(func(*cobra.Command) error { return config.Schema(c.deps.Stdout) }),
	}
}
