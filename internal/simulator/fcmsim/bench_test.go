package fcmsim

import (
	"strings"
	"testing"
	"time"

	"github.com/lhspn/lhspn/internal/simulator/record"
	"github.com/lhspn/lhspn/internal/simulator/web"
)

// BenchmarkAnswer is what the simulator does with a message, HTTP/2 aside.
func BenchmarkAnswer(b *testing.B) {
	s := &Simulator{recorder: record.New(record.Sums, 0, false, reasonText, nil)}
	s.SetFaults(Faults{})
	c := s.newSession()
	bearer := "Bearer " + s.bearers.issue(time.Now(), time.Hour)
	r := web.NewRequest("POST", sendPath)
	r.Set(fieldAuthorization, []byte(bearer))
	r.Set(fieldContentType, []byte("application/json"))
	bodies := make([][]byte, 100)
	for i := range bodies {
		bodies[i] = []byte(`{"message":{"token":"` + strings.Repeat(string(rune('a'+i%26)), 160) + `","android":{"ttl":"86400s","priority":"HIGH"},"notification":{"title":"Hello","body":"World"}}}`)
	}
	var tally record.Tally
	now := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if a := c.Answer(r, bodies[i%len(bodies)], len(bodies[0]), now, &tally); a.Status != 200 {
			b.Fatalf("%s", a.Body)
		}
	}
}
