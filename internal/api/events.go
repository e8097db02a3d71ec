package api

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// Events is the feed of what an app's backend is told.
type Events interface {
	// Read returns the events after the cursor, of the types (none: of all), and the cursor after them, which moves on
	// also where there are none. An empty cursor is the oldest that is kept, "latest" the end. push.ErrNotFound: the
	// app was given no such cursor; push.ErrGone: it is older than what is kept.
	Read(ctx context.Context, app, cursor string, types []push.EventType, limit int) (
		items []push.Event, next string, err error)
	// Changed is closed at the app's next event.
	Changed(app string) <-chan struct{}
}

const (
	eventStream       = "text/event-stream"
	headerLastEventID = "Last-Event-ID"
	// maxCursor is longer than any cursor of the feed.
	maxCursor = 64
	// readEvents is how long one read of the feed may take.
	readEvents = 20 * time.Second
	// heartbeat is how often a stream without events tells that it is there, and where it is.
	heartbeat = 15 * time.Second
	// streamFor is how long a stream lasts: its client comes again, with a key that is still good.
	streamFor = time.Hour
	// lastWrite is how long its client may take what is being written when the service ends.
	lastWrite = time.Second
	// streamItems is how many events of a stream are read at once.
	streamItems = 100
)

var eventsQuery = []parameter{
	{name: "after", longest: maxCursor,
		doc: "next_cursor of the answer before, or an event's id; left out: from the oldest event " +
			"that is kept; latest: from now on", mayBeEmpty: true},
	{name: "types", longest: 500, example: "notification.done,deliveries.failed",
		doc: "Only events of these types, separated by commas"},
	limitParameter,
	{name: "wait", least: 0, most: 60, otherwise: "0", doc: "Seconds to wait for an event where there is none"},
}

// feed is one request for events.
type feed struct {
	api    *API
	who    *principal
	cursor string
	types  []push.EventType
	limit  int
	head   bool // it is asked for the answer's header only
}

func (a *API) getEvents(ctx context.Context, x *exchange, r *http.Request) error {
	f := feed{api: a, who: x.who, cursor: x.query["after"], limit: x.query.number("limit")}
	var err error
	if f.types, err = eventTypes(x.query["types"]); err != nil {
		return err
	}
	wrong := push.Faults{{Location: "query.after", Message: "is no next_cursor and no event's id of this app"}}
	if last := r.Header.Get(headerLastEventID); last != "" {
		f.cursor = last
		wrong[0].Location = "header." + headerLastEventID
	}
	streams, wait := acceptsStream(r.Header), time.Duration(x.query.number("wait"))*time.Second
	if f.head = r.Method == http.MethodHead; f.head {
		wait = 0
	}
	if !f.head && (streams || wait > 0) {
		if !a.followers.enter(f.who.app.Name) {
			return explain(errBusy, "%d requests wait for the app's events, or stream them.", maxFollowers)
		}
		defer a.followers.leave(f.who.app.Name)
	}
	// The listener's own deadlines are for a request that is answered at once.
	deadlines := http.NewResponseController(x)
	_ = deadlines.SetReadDeadline(time.Time{})
	if streams {
		err = f.stream(ctx, x, deadlines)
	} else {
		_ = deadlines.SetWriteDeadline(time.Now().Add(wait + readEvents + progress))
		err = f.page(ctx, x, wait)
	}
	switch {
	case f.cursor != "" && isNotFound(err):
		return wrong
	case errors.Is(err, push.ErrGone):
		return explain(err, "The cursor is older than the events that are kept: some have been missed. "+
			"Without it the answer begins with the oldest.")
	}
	return err
}

// maxFollowers is how many requests of an app wait for its events, or stream them, at the same time.
const maxFollowers = 256

// followers counts those that wait for events, by app.
type followers struct {
	mu   sync.Mutex
	here map[string]int // guarded by mu; none is 0
}

// enter is false where the app has as many as it may. Who has entered must leave.
func (f *followers) enter(app string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.here[app] >= maxFollowers {
		return false
	}
	if f.here == nil {
		f.here = map[string]int{}
	}
	f.here[app]++
	return true
}

func (f *followers) leave(app string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.here[app]--; f.here[app] == 0 {
		delete(f.here, app)
	}
}

// acceptsStream reports whether the caller would rather have a stream than a page (RFC 9110, 12.5.1). One that takes
// both as well gets a page.
func acceptsStream(h http.Header) bool {
	wants := map[string]float64{}
	for _, accept := range h["Accept"] {
		for one := range strings.SplitSeq(accept, ",") {
			media, params, err := mime.ParseMediaType(one)
			if err != nil {
				continue
			}
			q, err := strconv.ParseFloat(params["q"], 64)
			if err != nil {
				q = 1
			}
			wants[media] = q
		}
	}
	return wants[eventStream] > wants["application/json"]
}

func eventTypes(list string) (types []push.EventType, err error) {
	if list == "" {
		return nil, nil
	}
	known := push.EventTypes()
	for name := range strings.SplitSeq(list, ",") {
		t := push.EventType(strings.TrimSpace(name))
		if !slices.Contains(known, t) {
			texts := make([]string, len(known))
			for i := range known {
				texts[i] = string(known[i])
			}
			return nil, push.Faults{{Location: "query.types", Message: "must be some of: " + strings.Join(texts, ", ")}}
		}
		types = append(types, t)
	}
	return types, nil
}

// next is what comes after the cursor, which moves on. more says that there may be more at once. A key that was revoked
// meanwhile, or has expired, is told nothing more.
func (f *feed) next(ctx context.Context, limit int) (items []push.Event, more bool, err error) {
	if err := f.api.stillTaken(f.who); err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, readEvents)
	defer cancel()
	items, next, err := f.api.events.Read(ctx, f.who.app.Name, f.cursor, f.types, limit)
	if err != nil {
		return nil, false, err
	}
	more = len(items) > 0 || next != f.cursor
	f.cursor = next
	return items, more, nil
}

// page answers with the events that there are or, where there are none, that come in time.
func (f *feed) page(ctx context.Context, x *exchange, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for ended := wait == 0; ; {
		var changed <-chan struct{}
		if !ended { // who does not wait follows nothing
			changed = f.api.events.Changed(f.who.app.Name)
		}
		items, more, err := f.next(ctx, f.limit)
		if err != nil {
			return err
		}
		if len(items) > 0 || ended {
			x.answerBytes(http.StatusOK, appendEvents(nil, items, f.cursor))
			return nil
		}
		if more {
			continue
		}
		select {
		case <-changed:
		case <-timer.C:
			ended = true
		case <-f.api.ending:
			ended = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stream answers with server-sent events. It ends after an hour, or with the service.
func (f *feed) stream(ctx context.Context, x *exchange, deadlines *http.ResponseController) error {
	defer f.hurryAtEnd(deadlines)()
	var out []byte
	end := time.NewTimer(streamFor)
	defer end.Stop()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for started := false; ; started = true {
		changed := f.api.events.Changed(f.who.app.Name)
		items, more, err := f.next(ctx, streamItems)
		if err != nil && !started {
			return err
		}
		if err != nil {
			if ctx.Err() == nil {
				f.api.log.Warn("event stream cut off", "app", f.who.app.Name, "error", err)
			}
			return nil // the client comes again with the last event's id
		}
		out = out[:0]
		for i := range items {
			out = appendStreamed(out, &items[i])
		}
		if !started {
			h := x.Header()
			h.Set("Content-Type", eventStream)
			h.Set("Cache-Control", "no-store")
			h.Set("X-Accel-Buffering", "no") // a proxy that gathers answers would keep the events
			x.WriteHeader(http.StatusOK)
			if f.head {
				return nil
			}
			if len(out) == 0 { // whose connection breaks before the first event goes on from here
				out = append(out, "id: "+f.cursor+"\n\n"...)
			}
		}
		if err := f.send(x, deadlines, out); err != nil {
			return nil // the client is gone
		}
		switch {
		case f.api.ends():
			return nil
		case more:
			continue
		}
		select {
		case <-changed:
		case <-beat.C:
			// An id without data is no event: it moves the client's Last-Event-ID on.
			if err := f.send(x, deadlines, []byte("id: "+f.cursor+"\n\n")); err != nil {
				return nil // the client is gone
			}
		case <-end.C:
			return nil
		case <-f.api.ending:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// ends reports whether those who wait for events are to be answered.
func (a *API) ends() bool {
	select {
	case <-a.ending:
		return true
	default:
		return false
	}
}

// hurryAtEnd has a client that does not read hold up the end of the service no longer than lastWrite, until the
// function that it returns is called.
func (f *feed) hurryAtEnd(deadlines *http.ResponseController) (stop func()) {
	stopped := make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		select {
		case <-f.api.ending:
			_ = deadlines.SetWriteDeadline(time.Now().Add(lastWrite))
		case <-stopped:
		}
	})
	return func() {
		close(stopped)
		g.Wait()
	}
}

func (f *feed) send(x *exchange, deadlines *http.ResponseController, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	_ = deadlines.SetWriteDeadline(time.Now().Add(progress)) // a writer without deadlines, as in tests, does as well
	if f.api.ends() {
		_ = deadlines.SetWriteDeadline(time.Now().Add(lastWrite))
	}
	if _, err := x.Write(text); err != nil {
		return err
	}
	if err := deadlines.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// appendStreamed appends the event as a stream has it.
func appendStreamed(b []byte, e *push.Event) []byte {
	b = append(append(b, "id: "...), e.ID...)
	b = append(append(b, "\nevent: "...), e.Type...)
	return append(appendEvent(append(b, "\ndata: "...), e), "\n\n"...)
}

// appendEvent appends the event's JSON, an eventBody. Its data is JSON without line breaks as it is; to go through it
// once more, as encoding/json does, takes about as long as to read it from the database. Id and type are plain words.
func appendEvent(b []byte, e *push.Event) []byte {
	b = append(append(b, `{"id":"`...), e.ID...)
	b = append(append(b, `","type":"`...), e.Type...)
	b = e.At.UTC().AppendFormat(append(b, `","at":"`...), time.RFC3339Nano)
	return append(append(append(b, `","data":`...), e.Data...), '}')
}

// besideData is more than what an event has beside its data.
const besideData = 160

// appendEvents appends the JSON of an eventsBody.
func appendEvents(b []byte, items []push.Event, cursor string) []byte {
	size := 0
	for i := range items {
		size += len(items[i].Data) + besideData
	}
	b = slices.Grow(b, size+besideData)
	b = append(b, `{"items":[`...)
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendEvent(b, &items[i])
	}
	return append(append(append(b, `],"next_cursor":"`...), cursor...), "\"}\n"...)
}

// EndStreams has those who wait for events answered, and streams ended, so that the listener can be shut down.
func (a *API) EndStreams() { a.endOnce.Do(func() { close(a.ending) }) }
