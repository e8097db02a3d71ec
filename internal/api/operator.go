package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// What an operator's page asks of the API beside its routes: who an operator is, and to send as an app would.

// Operator finds the operator's key with this text. id is the same for the same key and tells nothing of it. An error
// is one that ProblemOf explains; keys that are not taken are logged, counted and slowed down as on every route.
func (a *API) Operator(key string, from netip.Addr) (id [sha256.Size]byte, name string, err error) {
	id = sha256.Sum256([]byte(strings.TrimSpace(key)))
	p := a.directory.Load().keys[id]
	var why string
	switch {
	case p == nil:
		why, err = refusedUnknown, explain(errUnauthorized, "No operator has this key.")
	case p.key.expired(time.Now()):
		why, err = refusedExpired, explain(errUnauthorized, "The key has expired.")
	case p.key.Scope != ScopeOperator:
		why, err = refusedScope, explain(errForbidden, "The key has the scope %s; this asks for an operator's.", p.key.Scope)
	default:
		return id, p.key.Name, nil
	}
	if a.refuseKey(from, why, "route", "console") {
		err = errRefusals
	}
	return [sha256.Size]byte{}, "", err
}

// StillOperator is the name of the operator's key with that id, and whether it is still to be taken.
func (a *API) StillOperator(id [sha256.Size]byte) (name string, ok bool) {
	p := a.directory.Load().keys[id]
	if p == nil || p.key.Scope != ScopeOperator || p.key.expired(time.Now()) {
		return "", false
	}
	return p.key.Name, true
}

// HasOperators reports whether there is an operator's key at all.
func (a *API) HasOperators() bool {
	for _, p := range a.directory.Load().keys {
		if p.key.Scope == ScopeOperator {
			return true
		}
	}
	return false
}

// Submit accepts a notification of the app, given as the body of POST /v1/notifications, and returns its id. An error
// is one that ProblemOf explains.
func (a *API) Submit(ctx context.Context, app string, body []byte) (uuid.UUID, error) {
	of := a.directory.Load().apps[app]
	if of == nil {
		return uuid.Nil, explain(push.ErrNotFound, "There is no such app.")
	}
	parsed, err := push.ParseJSON(body)
	if err != nil {
		return uuid.Nil, err
	}
	rd := newAccepting(of)
	defer rd.release()
	s, err := rd.readNotification("body", parsed)
	if faults := rd.err(); faults != nil {
		err = faults
	}
	if err != nil {
		return uuid.Nil, err
	}
	if err := a.lookUp(ctx, &s); err != nil {
		return uuid.Nil, err
	}
	answer, err := json.Marshal(showAccepted(&s))
	if err != nil {
		return uuid.Nil, fmt.Errorf("marshal the answer: %w", err)
	}
	_, err = a.notifications.Accept(ctx, &push.Request{App: app, Submissions: []push.Submission{s}, Answer: answer})
	return s.Notification.ID, err
}

// ProblemOf is the problem that a request is answered with where err is what went wrong.
func ProblemOf(err error) *Problem { return problemOf(err) }

// KeyNameRule says what the name of a key may be.
const KeyNameRule = "must have 1 to 64 letters, digits, -, _ and ."

// CheckKeyName says what is wrong with a new key's name.
func CheckKeyName(name string) error {
	if keyName.MatchString(name) {
		return nil
	}
	return push.Faults{{Location: "name", Message: KeyNameRule}}
}
