package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lhspn/lhspn/internal/push"
)

// The limits of a notification.
const (
	maxTokens      = 10000
	maxUsers       = 10000
	maxCollapseID  = 64
	maxTopic       = 255
	maxBatch       = 1000
	maxIdempotency = 255
	maxDelay       = 30 * 24 * time.Hour
)

// latestExpiration is the last second that the expiration's 32 bits can name.
var latestExpiration = time.Unix(1<<32-1, 0).UTC()

// The types from here to batchBody document what readNotification and readBatch read.

type audienceBody struct {
	Tokens      []string  `json:"tokens,omitempty" nullable:"true" minItems:"1" maxItems:"10000" example:"[\"c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeebeef\"]" doc:"Device tokens, registered or not. A duplicate counts once"`
	Users       []string  `json:"users,omitempty" nullable:"true" minItems:"1" maxItems:"10000" doc:"All devices of these users"`
	Tags        *tagsBody `json:"tags,omitempty" doc:"All devices with these tags"`
	All         *bool     `json:"all,omitempty" nullable:"true" enum:"true" doc:"All devices of the app"`
	Environment *string   `json:"environment,omitempty" nullable:"true" enum:"production,sandbox" doc:"Only devices of this APNs. Left out: an audience reaches each device by the one it is registered with; of tokens a registered one goes to its own, others to the app's default"`
}

type tagsBody struct {
	Any  []string `json:"any,omitempty" nullable:"false" minItems:"1" maxItems:"64" doc:"With at least one of these"`
	All  []string `json:"all,omitempty" nullable:"false" minItems:"1" maxItems:"64" doc:"With every one of these"`
	None []string `json:"none,omitempty" nullable:"false" minItems:"1" maxItems:"64" doc:"With none of these"`
}

type notificationBody struct {
	To             audienceBody   `json:"to" doc:"Exactly one of tokens, users, tags and all"`
	Aps            map[string]any `json:"aps,omitempty" nullable:"true" example:"{\"alert\":{\"title\":\"Hello\",\"body\":\"World\"},\"sound\":\"default\"}" doc:"Apple's dictionary, passed on as it is given. Known keys are checked, unknown ones pass. There is a sound only where one is given"`
	Data           map[string]any `json:"data,omitempty" nullable:"true" doc:"Members that stand beside aps in the payload"`
	BadgeIncrement *uint32        `json:"badge_increment,omitempty" nullable:"true" format:"int64" maximum:"4294967295" doc:"Added to each recipient's stored badge, exactly once; the sum is sent as that device's badge. Not with aps.badge"`
	PushType       *string        `json:"push_type,omitempty" nullable:"true" enum:"alert,background,location,voip,complication,fileprovider,mdm,liveactivity,pushtotalk,widgets,controls" doc:"Derived from aps where left out"`
	Priority       *uint8         `json:"priority,omitempty" nullable:"true" enum:"10,5,1" doc:"Default 10, or 5 for background"`
	ExpiresAt      *string        `json:"expires_at,omitempty" nullable:"true" example:"2030-01-01T00:00:00Z" doc:"RFC 3339. After it APNs and we stop trying; default a day from now, or from send_at; 30 seconds for voip and pushtotalk, an hour for the updates of a Live Activity. \"0\": now or never"`
	CollapseID     *string        `json:"collapse_id,omitempty" nullable:"true" maxLength:"64" doc:"To 64 bytes. APNs shows only the newest of those with the same one"`
	SendAt         *time.Time     `json:"send_at,omitempty" nullable:"true" doc:"Not before; at most 30 days ahead"`
	TopicSuffix    *string        `json:"topic_suffix,omitempty" nullable:"true" example:".voip" doc:"Behind the app's topic; derived from push_type where left out"`
	Rate           *uint32        `json:"rate,omitempty" nullable:"true" format:"int64" minimum:"1" maximum:"4294967295" doc:"At most so many recipients a second, to spare one's own backend the stampede"`
}

type batchBody struct {
	Notifications []notificationBody `json:"notifications" nullable:"false" minItems:"1" maxItems:"1000"`
}

type acceptedBody struct {
	ID         string    `json:"id" format:"uuid" doc:"A UUID of version 7"`
	State      string    `json:"state" enum:"scheduled,queued,done" doc:"done: an audience without members"`
	Recipients *int      `json:"recipients" doc:"Null while an audience is being counted"`
	CreatedAt  time.Time `json:"created_at"`
}

type acceptedBatchBody struct {
	Notifications []acceptedBody `json:"notifications" nullable:"false" doc:"In the order of the request"`
}

// accepting reads notifications for one app at one time.
type accepting struct {
	reader
	app *App
	now time.Time
}

// readNotification reads one notification at at, which begins with body. The error is push.ErrTooLarge; faults are in the reader.
func (rd *accepting) readNotification(at string, body push.JSON) (push.Submission, error) {
	if !body.IsObject() {
		rd.fault(at, "must be an object")
		return push.Submission{}, nil
	}
	before := len(rd.faults)
	n := &push.Notification{App: rd.app.Name, Environment: rd.app.Routes[0], CreatedAt: rd.now, SendAt: rd.now}
	s := push.Submission{Notification: n, Routes: rd.app.Routes}
	var to, aps, data, pushType, priority, expiresAt, sendAt, suffix push.JSON
	rd.object(at, body, func(name string, v push.JSON) bool {
		if name == "to" {
			to = v
			return true
		}
		field := func() string { return at + "." + name }
		given := !v.IsNull() // null is as good as left out
		keep := func(into *push.JSON) {
			if given {
				*into = v
			}
		}
		switch name {
		case "aps":
			keep(&aps)
		case "data":
			keep(&data)
		case "badge_increment":
			if given {
				n.BadgeIncrement = rd.uint32(field(), v, 0)
			}
		case "push_type":
			keep(&pushType)
		case "priority":
			keep(&priority)
		case "expires_at":
			keep(&expiresAt)
		case "collapse_id":
			if given {
				n.CollapseID = rd.headerText(field(), v, maxCollapseID)
			}
		case "send_at":
			keep(&sendAt)
		case "topic_suffix":
			keep(&suffix)
		case "rate":
			if given {
				n.Rate = rd.uint32(field(), v, 1)
			}
		default:
			return false
		}
		return true
	})
	rd.readTo(at+".to", to, &s)
	rd.readType(at, n, aps, pushType, priority)
	rd.readTimes(at, n, aps, expiresAt, sendAt)
	rd.readTopic(at, n, suffix)
	n.Kind = n.Type.Kind(event(aps))
	if s.Audience != nil {
		s.Audience.Kind = n.Kind
		if s.Audience.Kind == push.KindLiveActivityStart {
			s.Audience.KindOf = apsText(aps, "attributes-type")
		}
	}
	if n.Key != rd.app.Topic+n.Type.TopicSuffix() { // then no answer speaks against a registered token
		n.Kind = push.KindNone
	}
	payload, faults := push.BuildPayload(n.Type, aps, data, n.BadgeIncrement > 0)
	for _, f := range faults {
		rd.fault(at+strings.TrimPrefix(f.Location, "body"), f.Message)
	}
	if len(rd.faults) > before {
		return s, nil
	}
	n.Payload = payload
	if err := payload.CheckSize(n.Type, rd.app.Binary); err != nil {
		return s, explain(err, "%s.", capital(strings.TrimPrefix(err.Error(), push.ErrTooLarge.Error()+": ")))
	}
	id, err := uuid.NewV7()
	if err != nil {
		return s, fmt.Errorf("make an id: %w", err)
	}
	n.ID = id
	return s, nil
}

var audienceFields = [...]string{"tokens", "users", "tags", "all", "environment"}

func (rd *accepting) readTo(at string, to push.JSON, s *push.Submission) {
	if to == nil {
		rd.fault(at, "is missing")
		return
	}
	if !to.IsObject() {
		rd.fault(at, "must be an object")
		return
	}
	kinds := 0
	var audience push.Audience
	var environment push.Route
	rd.object(at, to, func(name string, v push.JSON) bool {
		if v.IsNull() { // as good as left out
			return slices.Contains(audienceFields[:], name)
		}
		switch name {
		case "tokens":
			kinds++
			s.Tokens = rd.readTokens(at+".tokens", v)
		case "users":
			kinds++
			audience.Users = distinct(rd.texts(at+".users", v, 1, maxUsers, push.MaxUserID))
			s.Audience = &audience
		case "tags":
			kinds++
			audience.Tags = rd.readTags(at+".tags", v)
			s.Audience = &audience
		case "all":
			kinds++
			if string(v) != "true" {
				rd.fault(at+".all", "must be true")
			}
			audience.All = true
			s.Audience = &audience
		case "environment":
			environment = rd.environment(at+".environment", v)
		default:
			return false
		}
		return true
	})
	if kinds != 1 {
		rd.fault(at, "must have exactly one of tokens, users, tags and all")
	}
	if environment == "" {
		s.ByToken = true
		return
	}
	audience.Environment, s.Notification.Environment, s.Routes = environment, environment, []push.Route{environment}
}

func (rd *accepting) readTokens(at string, v push.JSON) []push.Token {
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
	for i, element := range v.Elements() {
		text := element.Text()
		if length := len(text) / 2; len(text)%2 == 0 && length >= push.MinHexTokenLen && length <= push.MaxHexTokenLen {
			if _, err := hex.Decode(raw[:], text); err == nil {
				tokens = append(tokens, push.HexToken(raw[:length]))
				continue
			}
		}
		message := "must be a string"
		if element.IsString() {
			token, err := push.ParseToken(string(text))
			if err == nil {
				tokens = append(tokens, token)
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

func (rd *accepting) readType(at string, n *push.Notification, aps, pushType, priority push.JSON) {
	n.Type = push.DeriveType(aps, n.BadgeIncrement > 0)
	if pushType != nil {
		t := push.Type(pushType.Text())
		if !t.Valid() {
			rd.fault(at+".push_type", "must be one of: "+typeList)
			return
		}
		n.Type = t
	}
	n.Priority = n.Type.DefaultPriority()
	if priority == nil {
		return
	}
	p, ok := priority.Uint(10)
	switch {
	case !ok || p != 10 && p != 5 && p != 1:
		rd.fault(at+".priority", "must be 10, 5 or 1")
	case !n.Type.Allows(uint8(p)):
		rd.fault(at+".priority", "must be "+n.Type.Priorities()+" with push type "+string(n.Type))
	default:
		n.Priority = uint8(p)
	}
}

var typeList = func() string {
	list := ""
	for _, t := range push.Types() {
		list += ", " + string(t)
	}
	return list[len(", "):]
}()

func (rd *accepting) readTimes(at string, n *push.Notification, aps, expiresAt, sendAt push.JSON) {
	if sendAt != nil {
		t, ok := readTime(sendAt)
		switch {
		case !ok:
			rd.fault(at+".send_at", "must be a time as in RFC 3339, like 2030-01-01T00:00:00Z")
		case t.Before(rd.now):
			rd.fault(at+".send_at", "must not be in the past")
		case t.After(rd.now.Add(maxDelay)):
			rd.fault(at+".send_at", "must be at most 30 days ahead")
		default:
			n.SendAt = t
		}
	}
	switch {
	case expiresAt == nil:
		n.Expiration = n.SendAt.Add(n.Type.Lifetime(event(aps)))
	case expiresAt.Is("0"): // the zero time
	default:
		t, ok := readTime(expiresAt)
		switch {
		case !ok:
			rd.fault(at+".expires_at", `must be a time as in RFC 3339, like 2030-01-01T00:00:00Z, or "0"`)
		case !t.After(n.SendAt):
			rd.fault(at+".expires_at", `must be later than now and than send_at; "0" means now or never`)
		case t.After(latestExpiration):
			rd.fault(at+".expires_at", "must not be later than "+latestExpiration.Format(time.RFC3339))
		default:
			n.Expiration = t
		}
	}
}

// event is that of a Live Activity's payload.
func event(aps push.JSON) string { return apsText(aps, "event") }

// apsText is the text of a member of aps, empty where there is none.
func apsText(aps push.JSON, name string) string {
	if aps == nil || !aps.IsObject() {
		return ""
	}
	for key, v := range aps.Members() {
		if string(key.Text()) == name {
			return v.String()
		}
	}
	return ""
}

// readTime reads RFC 3339 to the microsecond, which is what the databases keep.
func readTime(v push.JSON) (time.Time, bool) {
	if !v.IsString() {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, v.String())
	return t.UTC().Truncate(time.Microsecond), err == nil
}

func (rd *accepting) readTopic(at string, n *push.Notification, suffix push.JSON) {
	ending := n.Type.TopicSuffix()
	if suffix != nil {
		before := len(rd.faults)
		ending = rd.headerText(at+".topic_suffix", suffix, maxTopic-len(rd.app.Topic))
		if len(rd.faults) == before && ending != "" && ending[0] != '.' {
			rd.fault(at+".topic_suffix", "must begin with a dot")
		}
	}
	n.Key = rd.app.Topic + ending
}

// headerText is a text that goes to APNs in a header.
func (rd *reader) headerText(at string, v push.JSON, limit int) string {
	s, wrong := readText(v, limit)
	if wrong != "" {
		rd.fault(at, wrong)
	}
	if s != strings.Trim(s, " ") { // HTTP/2 has no such field value (RFC 9113, 8.2.1)
		rd.fault(at, "must not begin or end with a space")
		return ""
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == 0x7f {
			rd.fault(at, "must not contain control characters")
			return ""
		}
	}
	return s
}

func (a *API) postNotification(ctx context.Context, x *exchange, r *http.Request) error {
	return x.readBody(r, a.maxBody, func(body push.JSON) error {
		rd := accepting{app: x.who.app, now: now()}
		if body == nil {
			rd.fault("body", "is missing")
			return rd.err()
		}
		s, err := rd.readNotification("body", body)
		if err = cmp.Or(rd.err(), err); err != nil {
			return a.repeated(ctx, x, r, body, err)
		}
		if err := a.findEmpty(ctx, &s); err != nil {
			return err
		}
		return a.accept(ctx, x, r, body, []push.Submission{s}, showAccepted(&s))
	})
}

func (a *API) postBatch(ctx context.Context, x *exchange, r *http.Request) error {
	return x.readBody(r, a.maxBody, func(body push.JSON) error {
		rd := accepting{app: x.who.app, now: now()}
		if body == nil {
			rd.fault("body", "is missing")
			return rd.err()
		}
		submissions, err := rd.readBatch(body)
		if err = cmp.Or(rd.err(), err); err != nil {
			return a.repeated(ctx, x, r, body, err)
		}
		answer := acceptedBatchBody{make([]acceptedBody, len(submissions))}
		for i := range submissions {
			if err := a.findEmpty(ctx, &submissions[i]); err != nil {
				return err
			}
			answer.Notifications[i] = showAccepted(&submissions[i])
		}
		return a.accept(ctx, x, r, body, submissions, answer)
	})
}

func (rd *accepting) readBatch(body push.JSON) ([]push.Submission, error) {
	const at = "body.notifications"
	var list push.JSON
	rd.object("body", body, func(name string, v push.JSON) bool {
		if name == "notifications" {
			list = v
		}
		return name == "notifications"
	})
	if list == nil || !list.IsArray() {
		rd.fault(at, "must be an array of notifications")
		return nil, nil
	}
	n := list.Count()
	if n < 1 || n > maxBatch {
		rd.fault(at, "must have 1 to "+strconv.Itoa(maxBatch)+" elements, and has "+strconv.Itoa(n))
		return nil, nil
	}
	submissions := make([]push.Submission, 0, n)
	var tooLarge error
	for i, element := range list.Elements() {
		s, err := rd.readNotification(at+"["+strconv.Itoa(i)+"]", element)
		if err != nil && tooLarge == nil {
			tooLarge = explain(err, "notifications[%d]: %s", i, problemOf(err).Detail)
		}
		submissions = append(submissions, s)
		if rd.full() {
			break
		}
	}
	return submissions, tooLarge
}

// now is to the microsecond, which is what the databases keep.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func showAccepted(s *push.Submission) acceptedBody {
	n := s.Notification
	b := acceptedBody{ID: n.ID.String(), State: string(push.StateQueued), CreatedAt: n.CreatedAt}
	if n.SendAt.After(n.CreatedAt) {
		b.State = string(push.StateScheduled)
	}
	if s.Empty {
		b.State = string(push.StateDone)
	}
	if s.Audience == nil || s.Empty {
		recipients := len(s.Tokens)
		b.Recipients = &recipients
	}
	return b
}

// findEmpty looks whether an audience that would be sent to now has a member at all.
func (a *API) findEmpty(ctx context.Context, s *push.Submission) (err error) {
	if s.Audience != nil && !s.Notification.SendAt.After(s.Notification.CreatedAt) {
		s.Empty, err = a.notifications.Empty(ctx, s.Notification.App, *s.Audience)
	}
	return err
}

// repeated answers a request that is wrong: as it was answered before, where it repeats one that was right when it was made (its
// send_at was still to come), and with what is wrong otherwise.
func (a *API) repeated(ctx context.Context, x *exchange, r *http.Request, body push.JSON, wrong error) error {
	request := &push.Request{App: x.who.app.Name}
	if err := setKey(request, r, body); err != nil || request.IdempotencyKey == "" {
		return wrong
	}
	replay, err := a.notifications.Replayed(ctx, request)
	if err != nil || replay == nil {
		return wrong
	}
	x.answerAccepted(replay, true)
	return nil
}

// setKey takes the request's idempotency key from the header, if there is one. The path belongs to what is repeated: a batch's body sent to the
// path of a single notification is wrong, and its answer would be none of that path's.
func setKey(r *push.Request, from *http.Request, body push.JSON) error {
	keys := from.Header["Idempotency-Key"]
	if len(keys) == 0 {
		return nil
	}
	key := keys[0]
	if len(keys) > 1 || key == "" || len(key) > maxIdempotency {
		return faultsError{{Location: "header.Idempotency-Key", Message: "must have 1 to 255 bytes, and be given once"}}
	}
	r.IdempotencyKey = key
	hash := sha256.New()
	_, _ = io.WriteString(hash, from.URL.Path+"\n") // it cannot fail
	_, _ = hash.Write(body)
	hash.Sum(r.Hash[:0])
	return nil
}

// answerAccepted answers with what was accepted, now or when the request came first.
func (x *exchange) answerAccepted(answer []byte, replayed bool) {
	if replayed {
		x.Header()["Idempotency-Replayed"] = []string{"true"}
	}
	if id := acceptedID(answer); id != "" {
		x.Header()["Location"] = []string{"/v1/notifications/" + id}
	}
	x.answerBytes(http.StatusAccepted, answer)
}

// accept has the submissions made durable and only then answers.
func (a *API) accept(ctx context.Context, x *exchange, r *http.Request, body push.JSON, submissions []push.Submission, answer any) error {
	b, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("marshal the answer: %w", err)
	}
	b = append(b, '\n')
	request := &push.Request{App: x.who.app.Name, Submissions: submissions, Answer: b}
	if err := setKey(request, r, body); err != nil {
		return err
	}
	replay, err := a.notifications.Accept(ctx, request)
	if err != nil {
		return explainConflict(err, "The Idempotency-Key was used for another request.")
	}
	if replay != nil {
		b = replay
	}
	x.answerAccepted(b, replay != nil)
	return nil
}

// acceptedID is the id in the answer to a single notification, which begins with it; a batch has none.
func acceptedID(answer []byte) string {
	const prefix = `{"id":"`
	if len(answer) < len(prefix)+36 || string(answer[:len(prefix)]) != prefix {
		return ""
	}
	return string(answer[len(prefix) : len(prefix)+36])
}
