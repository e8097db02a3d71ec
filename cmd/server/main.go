// Command server is LHSPN: it registers device tokens, takes notifications over HTTP, keeps them until their service has
// taken them, and removes dead tokens. `server help` lists its commands.
//
// This package only wires the others together; it holds no rule of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments; it returns the exit status: 0, 1 for a failure, 2 for wrong
// arguments.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	root := rootCommand()
	root.SetArgs(append([]string{}, args...)) // nil stands for those of the process
	root.SetOut(stdout)
	root.SetErr(stderr)
	understood := false
	root.PersistentPreRunE = func(command *cobra.Command, _ []string) error {
		err := errors.Join(command.ValidateRequiredFlags(), command.ValidateFlagGroups())
		understood = err == nil
		return err
	}
	switch command, err := root.ExecuteContextC(ctx); {
	case err == nil:
		return 0
	case !understood:
		_, _ = fmt.Fprintf(stderr, "server: %v\nSee %s --help\n", err, command.CommandPath())
		return 2
	case errors.Is(err, errLogged):
		return 1
	default:
		_, _ = fmt.Fprintln(stderr, "server:", err)
		return 1
	}
}

// rootCommand is the command line: the program itself, which serves, and its commands.
func rootCommand() *cobra.Command {
	root := withConfig("server", "LHSPN, a push notification service",
		func(cmd *cobra.Command, file string) error {
			return serve(cmd.Context(), file, cmd.OutOrStdout(), cmd.ErrOrStderr())
		})
	root.Long = `LHSPN, a push notification service.

Without a configuration it runs in dev mode: SQLite and a simulator of the push services, on loopback.
Every setting is described in docs/configuration.md.`
	root.Args = nil // an argument is a command that there is not
	root.Version = versionText()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.AddCommand(
		withConfig("serve", "serve; without a configuration in dev mode", func(cmd *cobra.Command, file string) error {
			return serve(cmd.Context(), file, cmd.OutOrStdout(), cmd.ErrOrStderr())
		}),
		withConfig("check", "say what is wrong with the configuration, connecting to nothing",
			func(cmd *cobra.Command, file string) error { return check(file, cmd.OutOrStdout()) }),
		withConfig("doctor", "connect to the database and the gateways, and say what is to be mended",
			func(cmd *cobra.Command, file string) error { return doctor(cmd.Context(), file, cmd.OutOrStdout()) }),
		withConfig("migrate", "bring the database's schema up to date, as serve does",
			func(cmd *cobra.Command, file string) error { return migrate(cmd.Context(), file, cmd.ErrOrStderr()) }),
		healthCommand(), appCommand(), keyCommand(), importCommand(), exportCommand(), keygenCommand(), sendCommand(),
		tailCommand(), webhookTestCommand(),
		&cobra.Command{Use: "version", Short: "print the version, and the commit that it was built from",
			Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
				return printLine(cmd.OutOrStdout(), versionText())
			}},
	)
	return root
}

// withConfig is a command that is told the configuration's file.
func withConfig(use, short string, run func(cmd *cobra.Command, file string) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	file := c.Flags().String("config", "", "the configuration's `FILE`")
	c.RunE = func(cmd *cobra.Command, _ []string) error { return run(cmd, *file) }
	return c
}

// group is a command that has others, and does nothing by itself.
func group(use, short string, of ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("a command is missing after " + cmd.CommandPath())
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // without it there would be no error
	}
	c.AddCommand(of...)
	return c
}

func printLine(w io.Writer, text string) error {
	_, err := fmt.Fprintln(w, text)
	return err
}
