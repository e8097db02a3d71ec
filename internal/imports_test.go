// Package internal_test holds the one rule that spans the packages: who may import whom.
package internal_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/lhspn/lhspn/"

// allowed are the edges between our packages, each with its reason. Data flows one way, from the API through the queue
// and the sender to the transports; an edge that is not here would let it flow back or let two packages share a secret.
var allowed = map[string]map[string]string{
	"migrations":     {},
	"internal/push":  {},
	"internal/ring":  {},
	"internal/drain": {},
	"internal/push/pushtest": {
		"internal/push": "groups, for the tests of transports",
	},
	"internal/database": {
		"internal/delay": "it waits",
		"migrations":     "it runs them",
		"internal/push":  "an absent database is push.ErrUnavailable",
	},
	"internal/database/dbtest": {
		"internal/database": "it opens databases for the stores' tests",
		"migrations":        "a database that is used again has to be as they leave it",
	},
	"internal/inline":    {},
	"internal/filewatch": {},
	"internal/config": {
		"internal/push":     "environments are the domain's",
		"internal/inline":   "an app may be given with its credentials as text",
		"internal/netguard": "private addresses are told before they are dialled",
	},
	"internal/apps": {
		"internal/push":     "sentinels",
		"internal/database": "a store",
	},
	"internal/quota": {
		"internal/push":     "its refusal",
		"internal/database": "a store",
	},
	"internal/tokens": {
		"internal/quota":    "tokens are counted in the same transaction",
		"internal/events":   "tokens that are removed are told in the same transaction",
		"internal/push":     "device tokens",
		"internal/database": "a store",
	},
	"internal/events": {
		"internal/push":     "what events tell of",
		"internal/database": "a store",
	},
	"internal/webhooks": {
		"internal/push":     "what events tell of",
		"internal/database": "a store of how far each webhook is",
		"internal/http2":    "how Retry-After is read",
		"internal/netguard": "webhooks name where they are to be reached",
	},
	"internal/queue": {
		"internal/delay":    "it waits",
		"internal/quota":    "what waits is counted in the same transaction",
		"internal/events":   "what became of notifications is told in the same transaction",
		"internal/push":     "notifications and results",
		"internal/database": "a store",
	},
	"internal/api": {
		"internal/push": "values and sentinels; the stores are reached through interfaces of its own",
	},
	"internal/console": {
		"internal/push": "values and sentinels; all else is reached through interfaces of its own",
	},
	"internal/listener": {
		"internal/filewatch": "the certificate follows its files",
	},
	"internal/sender": {
		"internal/delay": "it waits",
		"internal/push":  "groups and results",
		"internal/queue": "batches and leases, the queue's own values, which the sender passes back to it; never its SQL",
		"internal/ring":  "what waits",
	},
	"internal/feedback": {
		"internal/delay": "it waits",
		"internal/push":  "invalidations",
	},
	"internal/delay":     {},
	"internal/tlsclient": {},
	"internal/http2": {
		"internal/drain":     "what is under way",
		"internal/ring":      "what waits for a connection",
		"internal/tlsclient": "its connections' TLS",
	},
	"internal/http2/http2test": {
		"internal/memconn": "its connections",
	},
	"internal/memconn":  {},
	"internal/netguard": {},
	"internal/tracing": {
		"internal/push": "it implements push.Tracer",
	},
	"internal/tracing/tracingtest": {},
	"internal/apns": {
		"internal/push":  "results and their reasons",
		"internal/http2": "its metrics, which are those of the provider API's connections",
	},
	"internal/apns/binary": {
		"internal/apns":       "reasons and metrics",
		"internal/apns/frame": "the codec",
		"internal/drain":      "what is under way",
		"internal/ring":       "what is unconfirmed, and what is to be written",
		"internal/push":       "groups and results",
		"internal/tlsclient":  "its connections' TLS",
	},
	"internal/apns/credentials": {
		"internal/inline":    "they may be text in place of a file",
		"internal/filewatch": "files are followed",
	},
	"internal/apns/provider": {
		"internal/apns":             "reasons, ids and metrics",
		"internal/apns/credentials": "provider tokens",
		"internal/http2":            "connections and requests",
		"internal/push":             "groups and results",
	},
	"internal/apns/frame": {},
	"internal/apns/payload": {
		"internal/push": "it makes notifications of their content",
	},
	"internal/webpush": {
		"internal/push":     "subscriptions are device tokens; groups and results",
		"internal/http2":    "its requests",
		"internal/ring":     "what waits for each push service",
		"internal/drain":    "what is under way",
		"internal/inline":   "the VAPID key may be text in place of a file",
		"internal/netguard": "subscriptions name where they are to be reached",
	},
	"internal/fcm": {
		"internal/delay":  "it waits",
		"internal/drain":  "what is under way",
		"internal/push":   "groups and results, and the content that messages are made of",
		"internal/http2":  "its requests",
		"internal/inline": "the service account may be text in place of a file",
	},
	"internal/simulator": {
		"internal/push":                 "device tokens",
		"internal/apns/frame":           "the binary codec",
		"internal/listener":             "its page on loopback is for this machine alone",
		"internal/simulator/fcmsim":     "FCM is a part of it",
		"internal/simulator/h2":         "the server of the provider API",
		"internal/simulator/listen":     "connections",
		"internal/simulator/record":     "what was received",
		"internal/simulator/webpushsim": "Web Push is a part of it",
	},
	"internal/simulator/fcmsim": {
		"internal/push":             "device tokens",
		"internal/simulator/listen": "connections",
		"internal/simulator/record": "what was received",
		"internal/simulator/web":    "its server",
	},
	"internal/simulator/simtest": {
		"internal/simulator": "it runs the simulator for tests of other packages",
	},
	"internal/simulator/h2": {
		"internal/simulator/listen": "how a connection ends",
	},
	"internal/simulator/listen": {},
	"internal/simulator/record": {
		"internal/push": "device tokens",
	},
	"internal/simulator/web": {
		"internal/simulator/h2":     "HTTP/2",
		"internal/simulator/listen": "connections",
		"internal/simulator/record": "what was received",
	},
	"internal/simulator/webpushsim": {
		"internal/push":             "device tokens",
		"internal/simulator/listen": "connections",
		"internal/simulator/record": "what was received",
		"internal/simulator/web":    "its server",
	},
	"cmd/apns-simulator": {
		"internal/simulator":            "it is the simulator as a program",
		"internal/simulator/fcmsim":     "the flags of FCM",
		"internal/simulator/webpushsim": "the flags of Web Push",
		"internal/push":                 "device tokens",
	},
	"cmd/server": nil, // wiring: all
}

func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(pkg.ImportPath, module)
		if strings.HasPrefix(name, "bench") || strings.HasPrefix(name, "tools") {
			continue // programs that measure the service from outside
		}
		edges, known := allowed[name]
		if !known && name != "internal" {
			t.Errorf("package %s is not in the list: add it with the edges it may have and why", name)
			continue
		}
		for _, imported := range pkg.Imports {
			ours, is := strings.CutPrefix(imported, module)
			if is && name != "cmd/server" && edges[ours] == "" {
				t.Errorf("%s imports %s, which architecture does not allow", name, ours)
			}
		}
	}
}
