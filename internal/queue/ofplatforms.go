package queue

import (
	"slices"
	"strings"

	"github.com/lhspn/lhspn/internal/push"
)

// ofPlatforms is a condition on the token column, and on the environment's, empty or beginning with AND. A platform's
// tokens are a range of the key that they are in, those of the default one what is between the ranges.
func ofPlatforms(s push.PlatformSet) (condition string, args []any) {
	condition, args = ofNames(s)
	if len(s.Except) > 0 {
		condition += " AND environment NOT IN " + list(len(s.Except))
		for _, route := range s.Except {
			args = append(args, string(route))
		}
	}
	return condition, args
}

func ofNames(s push.PlatformSet) (condition string, args []any) {
	if len(s.Names) == 0 {
		return "", nil
	}
	others := slices.Contains(s.Names, push.DefaultPlatform)
	var ranges []string
	for _, name := range s.All {
		if name != push.DefaultPlatform && slices.Contains(s.Names, name) != others {
			ranges = append(ranges, "(token >= ? AND token < ?)")
			args = append(args, []byte(name+":"), []byte(name+";")) // ';' follows ':'
		}
	}
	switch {
	case len(ranges) == 0 && others:
		return "", nil
	case len(ranges) == 0:
		return " AND 1 = 0", nil
	case others:
		return " AND NOT (" + strings.Join(ranges, " OR ") + ")", args
	}
	return " AND (" + strings.Join(ranges, " OR ") + ")", args
}
