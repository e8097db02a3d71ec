package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// version and revision are set by builds that know them better than the Go command.
var (
	version  = "dev"
	revision = ""
)

// commit is what the program was built from: "unknown" where it was not built from a repository.
func commit() string {
	if revision != "" {
		return revision
	}
	found, changed := "unknown", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				found = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				changed = "+changes"
			}
		}
	}
	return found + changed
}

// versionText is the version for people.
func versionText() string {
	return fmt.Sprintf("server %s, commit %s, %s", version, commit(), runtime.Version())
}

// registerBuild has the version among the metrics: what runs where is then seen while it is rolled out.
func registerBuild(reg prometheus.Registerer) {
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "lhspn", Name: "build_info", Help: "1, with the version and the commit of the program.",
	}, []string{"version", "commit"})
	build.WithLabelValues(version, commit()).Set(1)
	reg.MustRegister(build)
}
