package api

import (
	"encoding/hex"
	"errors"
	"slices"
	"strconv"

	"github.com/lhspn/lhspn/internal/push"
)

// recipients is what of a notification's recipients is needed beyond the submission.
type recipients struct {
	environment push.Route // empty: any
	platforms   []firstToken
	few         [4]firstToken // what platforms has its first room in
}

// firstToken is a platform of which to.tokens has a device token, and where the first of them is.
type firstToken struct {
	name  string
	index int
}

var audienceFields = [...]string{"tokens", "users", "tags", "all", "environment"}

func (rd *accepting) readTo(at string, to push.JSON, s *push.Submission, r *recipients) {
	if to == nil {
		rd.fault(at, "is missing")
		return
	}
	if !to.IsObject() {
		rd.fault(at, "must be an object")
		return
	}
	ways := 0
	var audience push.Audience
	rd.object(at, to, func(name string, v push.JSON) bool {
		if v.IsNull() { // as good as left out
			return slices.Contains(audienceFields[:], name)
		}
		switch name {
		case "tokens":
			ways++
			s.Tokens = rd.readTokens(at+".tokens", v, r)
		case "users":
			ways++
			audience.Users = distinct(rd.texts(at+".users", v, 1, maxUsers, push.MaxUserID))
			s.Audience = &audience
		case "tags":
			ways++
			audience.Tags = rd.readTags(at+".tags", v)
			s.Audience = &audience
		case "all":
			ways++
			if string(v) != "true" {
				rd.fault(at+".all", "must be true")
			}
			audience.All = true
			s.Audience = &audience
		case "environment":
			r.environment = rd.environment(at+".environment", v, rd.app.Platforms)
		default:
			return false
		}
		return true
	})
	if ways != 1 {
		rd.fault(at, "must have exactly one of tokens, users, tags and all")
	}
}

func (rd *accepting) readTokens(at string, v push.JSON, r *recipients) []push.Token {
	if !v.IsArray() {
		rd.fault(at, "must be an array of device tokens")
		return nil
	}
	n := v.Count()
	if n < 1 || n > maxTokens {
		rd.fault(at, "must have 1 to "+strconv.Itoa(maxTokens)+" elements, and has "+strconv.Itoa(n))
		return nil
	}
	tokens := make([]push.Token, 0, n)
	var raw [push.MaxHexTokenLen]byte
	hasHex := rd.app.platform(push.DefaultPlatform) != nil
	for i, element := range v.Elements() {
		text := element.Text()
		if hasHex && len(text)%2 == 0 && len(text) >= 2*push.MinHexTokenLen && len(text) <= 2*push.MaxHexTokenLen {
			if n, err := hex.Decode(raw[:], text); err == nil {
				tokens = append(tokens, push.HexToken(raw[:n]))
				r.add(push.DefaultPlatform, i)
				continue
			}
		}
		message := "must be a string"
		if element.IsString() {
			token, err := rd.app.parseToken(string(text))
			if err == nil {
				tokens = append(tokens, token)
				r.add(token.PlatformName(), i)
				continue
			}
			message = err.Error()
		}
		rd.fault(at+"["+strconv.Itoa(i)+"]", message)
		if rd.full() {
			return nil
		}
	}
	return distinct(tokens)
}

func (r *recipients) add(platform string, index int) {
	for _, first := range r.platforms {
		if first.name == platform {
			return
		}
	}
	if r.platforms == nil {
		r.platforms = r.few[:0]
	}
	r.platforms = append(r.platforms, firstToken{platform, index})
}

var errNoPlatform = errors.New("is a device token of a platform that the app does not have")

// parseToken reads a device token in its written form, which one of the app's platforms must know.
func (a *App) parseToken(written string) (push.Token, error) {
	t, err := push.ParseToken(written)
	if err != nil {
		return "", err
	}
	p := a.platform(t.PlatformName())
	if p == nil {
		return "", errNoPlatform
	}
	if err := p.CheckToken(t); err != nil {
		return "", err
	}
	return t, nil
}

func (rd *accepting) readTags(at string, v push.JSON) *push.Tags {
	tags := &push.Tags{}
	lists := 0
	rd.object(at, v, func(name string, v push.JSON) bool {
		// An empty list is refused: it is more likely a mistake than the wish to send to everybody.
		switch name {
		case "any":
			tags.Any = rd.tags(at+".any", v, 1)
		case "all":
			tags.All = rd.tags(at+".all", v, 1)
		case "none":
			tags.None = rd.tags(at+".none", v, 1)
		default:
			return false
		}
		lists++
		return true
	})
	if v.IsObject() && lists == 0 {
		rd.fault(at, "must have at least one of any, all and none")
	}
	return tags
}
