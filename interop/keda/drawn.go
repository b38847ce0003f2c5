package main

// Patterns drawn at random from the pieces of Go's syntax, sound and unsound ones: the built-in compiles them with Go's own
// engine, ours must read the same syntax with another one.

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

const (
	drawnPatterns = 300
	drawnSeed     = 7
	// patternsOfNamespace keeps each Kubernetes namespace below the scaler's limit of patterns (100 by default).
	patternsOfNamespace = 50
	maxPieces           = 5
	// oddOneIn is one piece out of so many.
	oddOneIn = 5
	// shownFailures is how many patterns an error names.
	shownFailures = 5
)

// The names in the table are made of the same letters as these pieces, so that many patterns match something. Those of one
// kind are sound by themselves; the others mostly are not, or mean one thing to Go and another to other engines.
var (
	soundPieces = []string{
		"rx-", "x", "a", "ab", "abc", "-", "-tail", "Upper", ".", ".*", ".+", ".?", ".*?", "a*", "a+?", "b??", "a{1}", "a{0,2}", "[a-c]+",
		"(a|ab|abc)", "(?:b|)", "(a|ab)?(c|bc)?", "(?i)", "(?i:UPPER)", "(?s).", "(?P<n>a)", "()", "[^a-c]*", "[[:alpha:]]+", "[[:^digit:]]*",
		`[\w-]+`, `\w+`, `\D*`, `\S+`, `\-`, `\x61`, `\x{62}`, `\pL+`, `\p{Ll}*`, `\PN*`, `\p{^Lu}+`, `\b`, `\B`, `\Qrx-a\E`, "|", "$", `\z`,
	}
	oddPieces = []string{
		"page-0", "9", "b{,3}", "b{1,2}?", "a{2,}", "a{2,1}", "a{1001}", "{", "}", "a**", "+", "?", "*", "||", "(", ")", "^", `\A`, `\Z`,
		"(?-i)", "(?m)^", "(?U)a+", "(?x) a", "(?<n>b)", "(?P<n", "(?=a)", "(?!a)", "(?<!a)", "[ab", "[]a]", "[^]a]", "[a-]", "[c-a]", "[[:none:]]",
		"[a&&b]", "[a--b]", "[[a]]", "[a~~b]", `[\d\-]`, "[]", "[-x]", `\d`, `\W`, `\s`, `\.`, `\/`, `\_`, `\<`, `\x`, `\060`, `\1`, `\8`, `\n`, `\a`, `\c`,
		`\e`, `\h`, `\p{Greek}`, `\p{None}`, `\pX`, `\C`, `\K`, `\Q.`, `\E`, "é", "&&", "#", " ", "~", `\`,
	}
)

func drawPatterns() []string {
	random := rand.New(rand.NewPCG(drawnSeed, 0))
	patterns := make([]string, 0, drawnPatterns)
	for len(patterns) < drawnPatterns {
		var pattern strings.Builder
		// Half of them begin like most names of the table.
		if random.IntN(2) == 0 {
			pattern.WriteString("rx-")
		}
		for range 1 + random.IntN(maxPieces) {
			kind := soundPieces
			if random.IntN(oddOneIn) == 0 {
				kind = oddPieces
			}
			pattern.WriteString(kind[random.IntN(len(kind))])
		}
		// Neither end may be blank: KEDA cuts that off, and an empty one is no pattern at all.
		if text := pattern.String(); strings.TrimSpace(text) == text {
			patterns = append(patterns, text)
		}
	}
	return patterns
}

// compareDrawn asks both about every pattern. The same counts must come out, or both must refuse.
func compareDrawn(ctx context.Context, processes *stack) error {
	// Disabled queues are the one thing that patterns count differently, as they should; rows show that. Here nothing may differ.
	for _, name := range []string{"disabled", "receive-disabled", "half-off"} {
		if err := processes.entities.setQueueStatus(ctx, name, admin.EntityStatusActive); err != nil {
			return err
		}
	}
	all := change{name: "all queues", trigger: queue(".*", "useRegex", "true"), act: func(context.Context, *namespace) error { return nil }}
	if verdict := compareChange(ctx, processes, all); len(verdict.problems) > 0 {
		return fmt.Errorf("all queues together: %s", strings.Join(verdict.problems, "; "))
	}
	var failures []string
	var matched, nothing, refusedByBoth int
	for index, pattern := range drawPatterns() {
		config := row{trigger: queue(pattern, "useRegex", "true")}.config(processes.connectionString)
		config.ScalableObjectNamespace = fmt.Sprintf("%s-%d", objectNamespace, index/patternsOfNamespace)
		callCtx, cancel := context.WithTimeout(ctx, rowPatience)
		builtin, ours := ask(callCtx, newBuiltin, config), ask(callCtx, external(processes.scalerAddress), config)
		cancel()
		verdict := judge(pattern, builtin, nil, builtin, ours, 0)
		switch {
		case len(verdict.problems) > 0:
			failures = append(failures, fmt.Sprintf("%q: the built-in %s%s: %s", pattern, builtin.reading, because(builtin), strings.Join(verdict.problems, "; ")))
		case builtin.metric == "":
			refusedByBoth++
		case strings.HasPrefix(builtin.reading, "0 "):
			nothing++
		default:
			matched++
		}
	}
	fmt.Printf("        %d patterns: %d match something, %d nothing, %d refused by both, %d differ\n", drawnPatterns, matched, nothing, refusedByBoth, len(failures))
	if len(failures) > 0 {
		return fmt.Errorf("%d patterns differ, such as %s", len(failures), strings.Join(failures[:min(len(failures), shownFailures)], " -- "))
	}
	return nil
}
