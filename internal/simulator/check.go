package simulator

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// authorize looks at a provider token; the one that the connection used last is known at a glance.
func (c *providerConn) authorize(value []byte) *providerToken {
	if bytes.Equal(value, c.auth.text) {
		return c.auth.token
	}
	const scheme = "bearer "
	if len(value) < len(scheme) || !strings.EqualFold(string(value[:len(scheme)]), scheme) {
		return &providerToken{reason: ReasonInvalidProviderToken}
	}
	keyID := ""
	if c.s.cfg.ProviderTokenKey == nil && c.s.tokenKey != nil {
		keyID = ProviderKeyID
	}
	token := c.s.tokens.lookUp(string(value[len(scheme):]), c.s.tokenKey, keyID, c.s.cfg.ProviderTokenInterval,
		c.http.Now())
	if token.reason != ReasonTooManyProviderTokenUpdates {
		c.auth.text, c.auth.token = append(c.auth.text[:0], value...), token
	}
	return token
}

// check validates a request as APNs does and says what is wrong with it.
func (c *providerConn) check(st *stream, payload []byte) Reason {
	switch {
	case !st.Post:
		return ReasonMethodNotAllowed
	case st.Value.pathReason != ReasonNone:
		return st.Value.pathReason
	}
	if reason := c.checkAuthorization(st); reason != ReasonNone {
		return reason
	}
	if st.Value.headReason != ReasonNone {
		return st.Value.headReason
	}
	switch {
	case st.Has(headerTopic):
		// Credentials are for their topics and what is derived from them.
		if !c.allows(st) {
			return ReasonTopicDisallowed
		}
	case st.Value.auth != nil || c.certTopic == "":
		return ReasonMissingTopic
	default:
		st.Value.topic = c.certTopic
	}
	if reason := checkType(st); reason != ReasonNone {
		return reason
	}
	limit := maxPayload
	if st.Value.pushType == typeVoIP {
		limit = maxPayloadVoIP
	}
	switch size := max(st.Size, len(payload)); {
	case size == 0:
		return ReasonPayloadEmpty
	case size > limit:
		return ReasonPayloadTooLarge
	case st.Value.pushType != typeMDM && !c.isPayload(payload):
		return ReasonPayloadEmpty
	}
	return ReasonNone
}

// allows reports whether the credentials may send to the request's topic.
func (c *providerConn) allows(st *stream) bool {
	is := func(topic string) bool {
		return st.Value.topic == topic || strings.HasPrefix(st.Value.topic, topic) && st.Value.topic[len(topic)] == '.'
	}
	if st.Value.auth == nil {
		// No certificate names the topics of location pushes, which are for provider tokens alone.
		return (c.certTopic == "" || is(c.certTopic)) && !strings.HasSuffix(st.Value.topic, typeSuffixes[typeLocation])
	}
	return len(c.s.cfg.Topics) == 0 || slices.ContainsFunc(c.s.cfg.Topics, is)
}

// typeSuffixes are what the topics of the push types end with.
var typeSuffixes = map[string]string{
	typeVoIP: ".voip", typeComplication: ".complication", typeFileProvider: ".pushkit.fileprovider",
	typeLocation: ".location-query", typeLiveActivity: ".push-type.liveactivity",
	typePushToTalk: ".voip-ptt", typeWidgets: ".push-type.widgets", typeControls: ".push-type.controls",
}

// checkType checks what a push type asks of the other headers.
func checkType(st *stream) Reason {
	switch st.Value.pushType {
	case "", typeAlert, typeMDM:
		return ReasonNone
	case typeBackground:
		if st.Value.priority != 5 {
			return ReasonBadPriority
		}
		return ReasonNone
	}
	if !strings.HasSuffix(st.Value.topic, typeSuffixes[st.Value.pushType]) {
		return ReasonBadTopic
	}
	if st.Value.pushType == typeLiveActivity && st.Value.priority == 1 {
		return ReasonBadPriority
	}
	return ReasonNone
}

// isPayload reports whether the payload is an object with aps. Apple documents no reason of its own for another; a
// payload is looked at again only when it differs from the one before.
func (c *providerConn) isPayload(payload []byte) bool {
	if len(payload) > 0 && bytes.Equal(payload, c.lastPayload) {
		return true
	}
	var members struct {
		APS json.RawMessage `json:"aps"`
	}
	if json.Unmarshal(payload, &members) != nil || len(members.APS) == 0 || members.APS[0] != '{' {
		return false
	}
	c.lastPayload = append(c.lastPayload[:0], payload...)
	return true
}

func (c *providerConn) checkAuthorization(st *stream) Reason {
	switch token := st.Value.auth; {
	case token == nil && !c.hasCert:
		return ReasonMissingProviderToken
	case token == nil:
		return ReasonNone
	case token.reason != ReasonNone:
		return token.reason
	case token.expired(c.http.Now()):
		return ReasonExpiredProviderToken
	case c.auth.first == nil:
		c.auth.first = token
	case token.team != c.auth.first.team:
		return ReasonInvalidProviderToken
	case token.key != c.auth.first.key:
		return ReasonUnrelatedKeyIDInToken
	}
	return ReasonNone
}
