package events

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

// holder is one replica with its route, as its sender would tell of it.
type holder struct {
	*Holds
	route Route
}

// holders are replicas on one database, of which those in live are so.
func (r *rig) holders(live *[]string, names ...string) []*holder {
	var all []*holder
	for _, name := range names {
		h := &holder{route: Route{App: app, Name: push.Production}}
		h.Holds = newStore(r.db).Holds(func() []Route { return []Route{h.route} },
			func(context.Context) (string, []string, error) { return name, *live, nil })
		all = append(all, h)
	}
	return all
}

// told passes through the replicas, and returns the types of the events there are then.
func (r *rig) told(all ...*holder) (types []push.EventType) {
	r.Helper()
	for _, h := range all {
		for range 2 { // the second sees what the first did
			r.must(h.pass(r.Context()))
		}
	}
	r.place()
	items, _, err := r.Read(r.Context(), app, "", nil, 100)
	r.must(err)
	for _, e := range items {
		types = append(types, e.Type)
	}
	return types
}

func TestHoldsAreToldOnce(t *testing.T) {
	each(t, func(r *rig) {
		live := []string{"one", "two", "three"}
		all := r.holders(&live, "one", "two", "three")
		one, two, three := all[0], all[1], all[2]
		want := []push.EventType{}
		check := func(what string, got []push.EventType) {
			r.Helper()
			if !slices.Equal(got, want) {
				r.Fatalf("%s: told %v, want %v", what, got, want)
			}
		}
		check("nothing is held", r.told(all...))
		refused := Route{App: app, Name: push.Production, Held: true, Reason: "Forbidden", Remedy: "mend it"}
		one.route, two.route = refused, refused
		want = append(want, push.EventHeld)
		check("two hold it", r.told(all...))
		check("and go on", r.told(all...))
		three.route.Taken = 10
		check("a third, which sends, says nothing of theirs", r.told(all...))
		one.route.Held = false
		check("a pause that is forgotten is no proof", r.told(all...))
		one.route.Taken = 1
		check("one gets through, and the other does not", r.told(all...))
		two.route.Held, two.route.Taken = false, 1
		want = append(want, push.EventResumed)
		check("both do", r.told(all...))
		check("and that is all", r.told(all...))

		// One that dies while it holds the route: who comes and sends ends it, and not before.
		two.route.Held = true
		want = append(want, push.EventHeld)
		check("held again", r.told(two))
		live = []string{"one", "three"}
		check("its end is not the route's", r.told(one, three))
		one.route.Held = true
		check("another takes its place", r.told(one, three))
		one.route.Held = false
		three.route.Taken++
		check("a third sends", r.told(one, three))
		one.route.Taken++
		want = append(want, push.EventResumed)
		check("the one that held it sends", r.told(one, three))

		// What a dead one held for its credentials ends with one that has good ones.
		live = append(live, "two")
		two.route.Held, two.route.Reason = true, push.CredentialsUnusable.Text
		want = append(want, push.EventHeld)
		check("without credentials", r.told(two))
		two.route.Held = false
		want = append(want, push.EventResumed)
		check("with credentials", r.told(two))

		var data Held
		items, _, err := r.Read(r.Context(), app, "", []push.EventType{push.EventHeld}, 1)
		r.must(err)
		r.must(json.Unmarshal(items[0].Data, &data))
		if data != (Held{"production", "Forbidden", "mend it"}) {
			r.Errorf("%+v", data)
		}
		var rows int
		r.must(r.db.Reader().Get(&rows, "SELECT COUNT(*) FROM holds"))
		if rows != 0 {
			r.Errorf("%d rows are left", rows)
		}
	})
}

// A replica that is not counted yet, as one that has just begun, tells nothing: what it held nobody would.
func TestHoldsOfAReplicaThatIsNotCountedYet(t *testing.T) {
	each(t, func(r *rig) {
		name, live := "", []string{"other"}
		h := &holder{route: Route{App: app, Name: push.Production, Held: true, Reason: "Forbidden"}}
		h.Holds = newStore(r.db).Holds(func() []Route { return []Route{h.route} },
			func(context.Context) (string, []string, error) { return name, live, nil })
		if got := r.told(h); len(got) > 0 {
			t.Errorf("told %v", got)
		}
		name, live = "one", []string{"one", "other"}
		if got := r.told(h); !slices.Equal(got, []push.EventType{push.EventHeld}) {
			t.Errorf("told %v", got)
		}
	})
}
