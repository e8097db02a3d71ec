// Command machine prints the facts about the machine that benchmarks are read with.
package main

import (
	"os"

	"github.com/lhspn/lhspn/bench/internal/measure"
)

func main() { measure.WriteMachine(os.Stdout) }
