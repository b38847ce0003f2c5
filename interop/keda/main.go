// Command keda runs KEDA's own Go code, from its published module, against this repository's broker and scaler.
//
//	keda parity   the built-in azure-servicebus trigger and ours must give the same answers, row by row
//	keda reads    what both cost the namespace under KEDA's call pattern
//
// It starts the broker and the scaler itself, on free ports of loopback, and leaves nothing behind. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	kedautil "github.com/kedacore/keda/v2/pkg/util"
)

const kedaModule = "github.com/kedacore/keda/v2"

// What KEDA's operator sets its HTTP clients to when it is not told otherwise (cmd/operator/main.go).
const (
	kedaHTTPTimeout         = 3 * time.Second
	kedaIdleConnections     = 1000
	kedaIdleConnectionAlive = 90 * time.Second
)

const usage = `Runs KEDA's own code against this repository's broker and scaler.

Usage:
  keda parity --broker FILE --scaler FILE [flags]   compare answers with the built-in trigger's
  keda reads  --broker FILE --scaler FILE [flags]   compare what the readings cost

"keda COMMAND -h" lists the flags. Exit code: 0 all as wanted, 1 a difference or a missed goal, 2 wrong usage.
`

// programs are the binaries under test.
type programs struct {
	broker, scaler string
}

func (p *programs) register(flags *flag.FlagSet) {
	flags.StringVar(&p.broker, "broker", "", "the broker's binary (required)")
	flags.StringVar(&p.scaler, "scaler", "", "the scaler's binary (required)")
}

func (p *programs) check() error {
	for _, program := range []struct{ name, path string }{{"broker", p.broker}, {"scaler", p.scaler}} {
		if program.path == "" {
			return fmt.Errorf("--%s is missing: give the path of its binary", program.name)
		}
		if _, err := os.Stat(program.path); err != nil {
			return fmt.Errorf("--%s: %w", program.name, err)
		}
	}
	return nil
}

// command is one of this program's: it registers its flags, and runs once they are parsed.
type command interface {
	register(flags *flag.FlagSet)
	check() error
	// run says whether all was as wanted; an error means that it could not find out.
	run(ctx context.Context) (bool, error)
}

func main() {
	os.Exit(entry(os.Args[1:]))
}

func entry(arguments []string) int {
	commands := map[string]command{"parity": &parityCommand{}, "reads": &readsCommand{}}
	if len(arguments) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	name := arguments[0]
	chosen, known := commands[name]
	switch {
	case slices.Contains([]string{"-h", "--help", "help"}, name):
		fmt.Print(usage)
		return 0
	case !known:
		fmt.Fprintf(os.Stderr, "keda: there is no command %q\n\n%s", name, usage)
		return 2
	}
	flags := flag.NewFlagSet("keda "+name, flag.ContinueOnError)
	chosen.register(flags)
	if err := flags.Parse(arguments[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if err := chosen.check(); err != nil || flags.NArg() > 0 {
		if err == nil {
			err = fmt.Errorf("%q is not a flag", flags.Arg(0))
		}
		fmt.Fprintf(os.Stderr, "keda %s: %v\n", name, err)
		return 2
	}
	if err := prepareKeda(); err != nil {
		fmt.Fprintf(os.Stderr, "keda %s: %v\n", name, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	good, err := chosen.run(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "keda %s: %v\n", name, err)
	}
	if err != nil || !good {
		return 1
	}
	return 0
}

// prepareKeda sets KEDA's process-wide state as its operator does, and makes sure that it is the KEDA we think it is.
func prepareKeda() error {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return fmt.Errorf("this binary does not say which modules are in it")
	}
	for _, module := range build.Deps {
		if module.Path == kedaModule && module.Version != kedaVersion {
			return fmt.Errorf("built with KEDA %s for KEDA %s: -modfile and -tags do not agree", module.Version, kedaVersion)
		}
	}
	keepKedaLog()
	return kedautil.ConfigureHTTPTransport(kedautil.HTTPTransportConfig{
		MaxIdleConnsPerHost: kedaIdleConnections,
		IdleConnTimeout:     kedaIdleConnectionAlive,
	})
}
