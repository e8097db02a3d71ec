package api

import "testing"

// A key goes on with what it has used of its rate, unless it counts otherwise now: a register key for each address too.
func TestARateIsKeptWithItsScope(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	rate := func(scope Scope, perSecond int) *keyRate {
		t.Helper()
		app := App{Name: "hedgehog", Platforms: apple("com.example.hedgehog"), Keys: []Key{
			{Name: "key", Scope: scope, Hash: keyHash("key"), Rate: perSecond},
		}}
		if err := f.SetApps([]App{app}, nil); err != nil {
			t.Fatal(err)
		}
		return f.directory.Load().keys[keyHash("key")].rate
	}
	first := rate(ScopeSend, 5)
	if rate(ScopeSend, 5) != first {
		t.Error("the rate begins anew where nothing changed")
	}
	if rate(ScopeSend, 6) == first || rate(ScopeRegister, 5) == first {
		t.Error("the former rate is kept")
	}
}
