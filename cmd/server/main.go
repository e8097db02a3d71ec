// Command server is LHSPN: it registers device tokens, takes notifications over HTTP, keeps them until APNs has taken
// them, and removes dead tokens. `server help` lists its commands.
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

	"github.com/spf13/pflag"

	"github.com/lhspn/lhspn/internal/config"
)

const usage = `LHSPN, a push notification service

  server [serve]                      dev mode: SQLite and the APNs simulator, on loopback
  server serve --config FILE          serve
  server check --config FILE          say what is wrong with the configuration, connecting to nothing
  server doctor --config FILE         connect to the database and the gateways, and say what is to be mended
  server health [--config FILE] [--url URL]
                                      ask the service that runs here whether it is ready, as health checks do: at
                                      /readyz of ops_listen in the file or LHSPN_OPS_LISTEN, or at the URL
  server migrate --config FILE        bring the database's schema up to date
  server app list | get NAME | put NAME FILE | delete NAME [--no-wait]
  server key list APP | add APP NAME [--scope SCOPE] [--expires-at TIME] [--rate N] | revoke APP NAME
                                      ask and tell a running service, with [--url URL] and the key of an operator:
                                      [--key-file FILE], or the variable OPERATOR_KEY; FILE is the app as JSON, - reads it
  server import FILE | export FILE [--url URL] [--key-file FILE]
                                      device tokens into, or out of, a running service, a line of JSON each; with the
                                      app's key of scope admin, or the variable ADMIN_KEY; FILE - is standard input
                                      or output
  server keygen --scope SCOPE         make an API key (register, send, admin or operator) and print it with its hash
  server keygen --master              make a master_key and print it
  server keygen --vapid               make a VAPID key for Web Push and print it
  server keygen --webhook             make a secret that webhooks are signed with and print it
  server send --config FILE --token T --alert TEXT [--app NAME] [--environment production|sandbox]
                                      send one notification straight to the service that the token is of and print
                                      the verdict; on APNs, for an alert of
                                      the app's own texts: --loc-key KEY [--loc-arg ARG]... in place of --alert, and
                                      [--action-loc-key KEY] [--launch-image NAME]
  server send --config FILE --token T --payload JSON [--push-type TYPE]
                                      the same with a payload: on APNs the whole of it, as {"aps": {...}}, on FCM the
                                      message without its target, in browsers any JSON; @NAME reads it from a file
  server tail --app NAME [--config FILE] [--after CURSOR] [--types LIST]
                                      print the app's events as they come, a line of JSON each; it reads the database.
                                      Without a configuration those of dev mode
  server webhook-test --app NAME [--config FILE]
                                      send one event to each webhook of the app and print what came of it
  server version, or --version        the version and the commit that it was built from

Every setting is described in docs/configuration.md.
`

// errUsage says that the arguments were wrong; what and how has been printed.
var errUsage = errors.New("usage")

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments; it returns the exit status: 0, 1 for a failure, 2 for wrong
// arguments.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	switch err := command(ctx, args, stdout, stderr); {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, errLogged):
		return 1
	default:
		_, _ = fmt.Fprintln(stderr, "server:", err)
		return 1
	}
}

func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	name := "serve"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		name, args = args[0], args[1:]
	} else if len(args) > 0 && (args[0] == "-h" || args[0] == "--help") {
		name = "help"
	} else if len(args) > 0 && args[0] == "--version" {
		name, args = "version", args[1:]
	}
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { _, _ = fmt.Fprint(stdout, usage) } // only where it is asked for
	configFile := flags.String("config", "", "the configuration file")
	var scope *string
	var vapid, master, webhook *bool
	var toSend message
	var operator operate
	var toTail tailing
	var toTest *string
	var url *string
	var toTransfer transfer
	switch name {
	case "health":
		url = flags.String("url", "", "what is asked, in place of /readyz of ops_listen")
	case "keygen":
		scope = flags.String("scope", "send", "register, send, admin or operator")
		vapid = flags.Bool("vapid", false, "make a VAPID key in place of an API key")
		master = flags.Bool("master", false, "make a master_key in place of an API key")
		webhook = flags.Bool("webhook", false, "make a webhook's secret in place of an API key")
	case "send":
		toSend.flags(flags)
	case "app", "key":
		operator.flags(flags)
	case "import", "export":
		toTransfer.flags(flags)
	case "tail":
		toTail.flags(flags)
	case "webhook-test":
		toTest = flags.String("app", "", "the app's name")
	}
	if err := flags.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return nil
	} else if err != nil {
		_, _ = fmt.Fprintln(stderr, "server:", err)
		return errUsage
	}
	if name == "app" || name == "key" {
		err := operator.run(ctx, name, flags.Args(), stdout, stderr)
		if errors.Is(err, errUsage) {
			_, _ = fmt.Fprint(stderr, usage)
		}
		return err
	}
	if (name == "import" || name == "export") && flags.NArg() == 1 {
		return toTransfer.run(ctx, name, flags.Arg(0), stdout, stderr)
	}
	if flags.NArg() > 0 {
		_, _ = fmt.Fprintf(stderr, "server: %s takes no argument %q\n%s", name, flags.Arg(0), usage)
		return errUsage
	}
	switch name {
	case "serve":
		return serve(ctx, *configFile, stdout, stderr)
	case "check":
		return check(*configFile, stdout)
	case "doctor":
		return doctor(ctx, *configFile, stdout)
	case "health":
		return health(ctx, *configFile, *url, stdout)
	case "import", "export":
		_, _ = fmt.Fprintf(stderr, "server: %s takes the name of a file\n%s", name, usage)
		return errUsage
	case "migrate":
		return migrate(ctx, *configFile, stderr)
	case "keygen":
		if *vapid {
			return keygenVAPID(stdout)
		}
		if *master {
			_, err := fmt.Fprintln(stdout, config.NewMasterKey())
			return err
		}
		if *webhook {
			_, err := fmt.Fprintln(stdout, config.NewWebhookSecret())
			return err
		}
		return keygen(*scope, stdout)
	case "send":
		return send(ctx, *configFile, toSend, stdout)
	case "tail":
		return tail(ctx, *configFile, toTail, stdout, stderr)
	case "webhook-test":
		return webhookTest(ctx, *configFile, *toTest, stdout)
	case "version":
		return printVersion(stdout)
	case "help":
		_, err := fmt.Fprint(stdout, usage)
		return err
	}
	_, _ = fmt.Fprintf(stderr, "server: no command %q\n%s", name, usage)
	return errUsage
}
