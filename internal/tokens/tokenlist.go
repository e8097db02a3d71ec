package tokens

import (
	"github.com/lhspn/lhspn/internal/push"
)

// tokenList is the tokens, in their order, of the index rows with one of the values.
type tokenList struct {
	kind   string
	values []string
}

// maxUnion is how many values of a list are read as lists of their own, each already in the tokens' order. Beyond it,
// and for users, who have few devices each, the rows of all values are sorted anew for each page.
const maxUnion = 100

// merged reports whether the list is read as several, one for each value.
func (st tokenList) merged() bool {
	return len(st.values) > 1 && len(st.values) <= maxUnion && st.kind != kindUser
}

// leastList is how much of each of many lists is read at the least.
const leastList = 64

// appendBounded appends a SELECT of all their tokens after after and up to bound, of which each list has at most
// share.
func (st tokenList) appendBounded(s *statement, app string, after, bound push.Token, share int) {
	s.add("SELECT token FROM (")
	st.appendEach(s, " UNION ", "token", app, after, share)
	s.add(") AS u")
	if bound != "" {
		s.add(" WHERE token <= ?", []byte(bound))
	}
}

// appendTokens appends a SELECT of the list's next tokens.
func (st tokenList) appendTokens(s *statement, app string, after push.Token, limit int) {
	const from = " FROM device_token_index WHERE app = ? AND kind = ? AND value"
	switch {
	case len(st.values) == 1:
		s.add("SELECT token"+from+" = ? AND token > ? ORDER BY token LIMIT ?", app, st.kind, []byte(st.values[0]),
			[]byte(after), limit)
	case st.kind == kindUser || len(st.values) > maxUnion:
		s.add("SELECT DISTINCT token"+from+" IN", app, st.kind).list(len(st.values),
			func(i int) any { return []byte(st.values[i]) }).
			add(" AND token > ? ORDER BY token LIMIT ?", []byte(after), limit)
	default:
		// The first of each list hold the first of all of them.
		s.add("SELECT token FROM (")
		st.appendEach(s, " UNION ", "token", app, after, limit)
		s.add(") AS u ORDER BY token LIMIT ?", limit)
	}
}

// appendEach appends a SELECT of the columns of each value's next tokens, with union between them.
func (st tokenList) appendEach(s *statement, union, columns, app string, after push.Token, limit int) {
	for i := range st.values {
		if i > 0 {
			s.add(union)
		}
		s.add("SELECT " + columns + " FROM (")
		tokenList{st.kind, st.values[i : i+1]}.appendTokens(s, app, after, limit)
		s.add(") AS v")
	}
}
