package webpush

import (
	"testing"

	"github.com/lhspn/lhspn/internal/push"
)

func TestPlatform(t *testing.T) {
	t.Parallel()
	p := &Platform{Origins: parseOrigins(t)}
	p.VAPID.Store(newVAPID(t))
	subscription := push.JSON(subscriptionJSON("https://web.push.apple.com/x", exampleP256DH, exampleAuth))
	token, stored, faults := p.Token(map[string]push.JSON{"subscription": subscription})
	if faults != nil || p.CheckToken(token) != nil {
		t.Fatalf("%s, %v", token, faults)
	}
	s, err := ParseAddress(stored)
	if err != nil || s.VAPID != p.PublicKey() || s.Token() != token {
		t.Errorf("stored is %s, %v", stored, err)
	}

	// What is exported is imported with the key it was made with, whatever the key is by then.
	exported := p.Subscription(stored)
	p.VAPID.Store(newVAPID(t))
	again, storedAgain, faults := p.Token(map[string]push.JSON{"subscription": exported})
	if again != token || string(storedAgain) != string(stored) || faults != nil {
		t.Errorf("%s becomes %s, %v", exported, storedAgain, faults)
	}
	if p.Subscription([]byte("{}")) != nil {
		t.Error("what is no address is exported")
	}

	for _, given := range []map[string]push.JSON{{}, {"token": push.JSON(`"webpush:x"`)}, {"subscription": push.JSON(`{}`)},
		{"subscription": subscription, "token": push.JSON(`"webpush:x"`)}, {"subscription": subscription, "token": push.JSON(`5`)},
	} {
		if _, _, faults := p.Token(given); len(faults) == 0 {
			t.Errorf("%v is taken", given)
		}
	}
	for _, token := range []push.Token{"webpush:", "webpush:x", "fcm:x", push.Token("webpush:" + exampleP256DH), token + "="} {
		if p.CheckToken(token) == nil {
			t.Errorf("%s is taken", token)
		}
	}

	if n, faults, err := p.Compose(content(t, `{"aps":{"alert":"x"}}`)); n != nil || faults != nil || err != nil {
		t.Errorf("what is for Apple only becomes %v, %v, %v", n, faults, err)
	}
	n, faults, err := p.Compose(content(t, `{"message":{"title":"x"},"badge_increment":2}`))
	if n == nil || faults != nil || err != nil || string(p.Preview(n)) != `{"web_push":8030,"app_badge":1,"notification":{"title":"x"}}` {
		t.Errorf("%v, %v, %v", n, faults, err)
	}
	if (&Platform{}).PublicKey() != "" {
		t.Error("there is a key without one")
	}
}
