package tokens

import (
	"slices"

	"github.com/lhspn/lhspn/internal/push"
)

// The tokens of each platform but the default one begin with its name and a colon, and so are a range of the clustered
// key and of each list in the index. Those of the default one are what is between these ranges.

// wants reports whether tokens with the prefix are of a platform that is selected.
func (sel *selection) wants(prefix []byte) bool {
	if len(sel.platforms) == 0 {
		return true
	}
	if len(prefix) == 0 {
		return slices.Contains(sel.platforms, push.DefaultPlatform)
	}
	for _, platform := range sel.platforms {
		if string(prefix[:len(prefix)-1]) == platform {
			return true
		}
	}
	return false
}

// start is what all selected tokens come after; empty where they can be anywhere.
func (sel *selection) start() push.Token {
	if sel.wants(nil) {
		return ""
	}
	start, _ := sel.nextRange(nil)
	return start
}

// behind is what the next selected token comes after, given one of a platform, named by the prefix, that is not
// selected; ends says that there can be none.
func (sel *selection) behind(prefix, token []byte) (after push.Token, ends bool) {
	if !sel.wants(nil) {
		return sel.nextRange(token)
	}
	return push.Token(prefix[:len(prefix)-1]) + ";", false // ';' follows ':'
}

// nextRange is what the first range of a selected platform that begins after the token comes after.
func (sel *selection) nextRange(token []byte) (after push.Token, ends bool) {
	for _, platform := range sel.platforms {
		begin := push.Token(platform) + ":"
		if string(begin) > string(token) && (after == "" || begin < after) {
			after = begin
		}
	}
	return after, after == ""
}
