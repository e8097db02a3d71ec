package api

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	// streamPage is the number of lines of an import that are stored together, and of tokens of one read of an export.
	streamPage = 1000
	// importPages is how many pages are stored together where they are read faster than stored, if they have no more than
	// importBytes: the more, the fewer pages of the database each of them changes.
	importPages = 32
	importBytes = 8 << 20
	// importRun is how many of their devices share a transaction: enough that its commit costs little beside them, and few
	// enough that whoever waits for it waits for tens of milliseconds.
	importRun = 4 * streamPage
	// maxLine is the length of a line of an import.
	maxLine = maxRegistration
	// maxRefused is the number of refused lines that an answer lists, so that its size is bounded as everything is.
	maxRefused = 100_000
	// progress is how long an import may take to send a page, and an export to take one.
	progress = time.Minute
	ndjson   = "application/x-ndjson"
)

// importer reads an NDJSON stream in pages. While some are stored the next ones are read.
type importer struct {
	api    *API
	who    *principal
	now    time.Time
	answer importBody
	// pages has what was read since store began; the first whole of its devices are of its first wholeLines, which are
	// whole pages.
	pages      importedLines
	whole      int
	wholeLines int64
	taken      int64 // lines of what is stored
	// storing has the result of what is being stored; nil where nothing is.
	storing chan error
	stored  importedLines
	run     []push.Device // of it, in one transaction
	failed  error         // that something could not be stored: nothing after it is
}

// importedLines are lines with the devices that they hold.
type importedLines struct {
	devices *push.Devices
	lines   int64
	bytes   int
}

func (a *API) importTokens(ctx context.Context, x *exchange, r *http.Request) error {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if media != "" && !isNDJSON(strings.ToLower(strings.TrimSpace(media))) {
		return explain(errMediaType, "An import must be %s.", ndjson)
	}
	if err := checkEncoding(r.Header); err != nil {
		return err
	}
	deadlines := http.NewResponseController(x)
	im := &importer{
		api: a, who: x.who, now: now(),
		answer: importBody{Errors: []refusedLine{}},
		pages:  importedLines{devices: new(push.Devices)}, stored: importedLines{devices: new(push.Devices)},
	}
	moved := func() {
		deadline := time.Now().Add(progress)
		_ = deadlines.SetReadDeadline(deadline) // a writer without deadlines, as in tests, does as well
		_ = deadlines.SetWriteDeadline(deadline)
	}
	err := im.read(ctx, r.Body, moved)
	// A stream that ends in order has its last page stored, and one that is broken off its whole ones.
	if err != nil {
		im.pages.devices.Truncate(im.whole)
		im.pages.lines = im.wholeLines
	}
	if stored := cmp.Or(im.store(ctx), im.settle()); err == nil {
		err = stored
	}
	moved() // what was left to be stored may have taken as long, and the answer is still to come
	if err != nil {
		p := problemOf(err)
		taken := im.taken
		p.LinesTaken = &taken
		p.Detail = strings.TrimSpace(fmt.Sprintf("%s The import was broken off; what its first %d lines hold was imported.",
			p.Detail, taken))
		a.log.Warn("token import broken off", "app", im.who.app.Name, "lines_taken", taken, "error", err)
		return p
	}
	a.log.Info("tokens imported", "app", im.who.app.Name, "imported", im.answer.Imported, "refused", im.answer.Refused)
	return x.answer(http.StatusOK, im.answer)
}

func isNDJSON(media string) bool {
	switch media {
	case ndjson, "application/ndjson", "application/jsonl", "application/json":
		return true
	}
	return false
}

// byteOrderMark stands before the text of some editors and shells, which would else be refused for it.
var byteOrderMark = []byte("\ufeff")

var errLineTooLong = errors.New("line too long")

// read takes the stream line by line. A last line without its newline counts where the stream ended in order.
func (im *importer) read(ctx context.Context, body io.Reader, moved func()) error {
	lines := bufio.NewReaderSize(body, maxLine+len("\r\n"))
	moved()
	for number := int64(1); ; number++ {
		line, err := nextLine(lines)
		if errors.Is(err, io.EOF) {
			return im.api.stillTaken(im.who)
		}
		if err != nil && !errors.Is(err, errLineTooLong) {
			return bodyError(err)
		}
		if number == 1 {
			line = bytes.TrimPrefix(line, byteOrderMark)
		}
		if line = bytes.TrimSpace(line); len(line) == 0 && err == nil {
			continue
		}
		if len(line) > maxLine {
			err = errLineTooLong
		}
		im.answer.Lines++
		im.pages.lines++
		im.pages.bytes += len(line)
		if err != nil {
			im.refuse(number, fmt.Sprintf("the line has more than %d bytes", maxLine))
		} else {
			im.take(number, line)
		}
		if im.pages.lines%streamPage == 0 {
			im.whole, im.wholeLines = im.pages.devices.Len(), im.pages.lines
			if err := im.api.stillTaken(im.who); err != nil {
				return err
			}
			enough := im.pages.lines >= importPages*streamPage || im.pages.bytes >= importBytes
			if enough || !im.busy() {
				if err := im.store(ctx); err != nil {
					return err
				}
			}
			moved()
		}
	}
}

// nextLine returns the next line, which is good until the next call. Of a line that does not fit nothing is kept.
func nextLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
		return line, nil
	case !errors.Is(err, bufio.ErrBufferFull):
		return nil, err
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return nil, errLineTooLong
}

func (im *importer) refuse(line int64, message string) {
	im.answer.Refused++
	if len(im.answer.Errors) < maxRefused {
		im.answer.Errors = append(im.answer.Errors, refusedLine{line, message})
	}
}

func (im *importer) take(number int64, line []byte) {
	body, err := push.ParseJSON(line)
	if err != nil {
		im.refuse(number, err.Error())
		return
	}
	if faults := body.LoneSurrogates("line"); faults != nil {
		im.refuse(number, faults[0].Error())
		return
	}
	device, err := readDevice(body, im.who.app, im.now)
	if err != nil {
		var faults push.Faults
		if errors.As(err, &faults) {
			err = faults[0]
		}
		im.refuse(number, err.Error())
		return
	}
	im.pages.devices.Add(&device)
}

// store has what was read imported, once what came before is stored.
func (im *importer) store(ctx context.Context) error {
	if err := im.settle(); err != nil {
		return err
	}
	im.pages, im.stored = importedLines{devices: im.stored.devices}, im.pages
	im.pages.devices.Reset()
	im.whole, im.wholeLines, im.now = 0, 0, now()
	if im.stored.devices.Len() == 0 {
		im.taken += im.stored.lines
		return nil
	}
	im.storing = make(chan error, 1)
	// A client that leaves does not take back what it has sent.
	ctx = context.WithoutCancel(ctx)
	go func(devices *push.Devices, done chan<- error) {
		defer func() {
			if v := recover(); v != nil { // here it would end the process, and not only the request
				done <- fmt.Errorf("store a page: panic: %v\n%s", v, debug.Stack())
			}
		}()
		done <- im.storeAll(ctx, devices)
	}(im.stored.devices, im.storing)
	return nil
}

// storeAll stores the devices, which come in no order, in their tokens' order: those of a transaction are neighbours
// this way, and change few pages of the database.
func (im *importer) storeAll(ctx context.Context, devices *push.Devices) error {
	devices.SortByToken()
	for first := 0; first < devices.Len(); first += importRun {
		im.run = devices.Append(im.run[:0], first, min(first+importRun, devices.Len()))
		limited, cancel := context.WithTimeout(ctx, progress)
		err := im.api.tokens.Import(limited, im.who.app.Name, im.run)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// busy reports whether something is being stored.
func (im *importer) busy() bool { return im.storing != nil && len(im.storing) == 0 }

// settle waits until nothing is being stored.
func (im *importer) settle() error {
	if im.storing == nil {
		return im.failed
	}
	im.failed = <-im.storing
	im.storing = nil
	if im.failed == nil {
		im.taken += im.stored.lines
		im.answer.Imported += int64(im.stored.devices.Len())
	}
	return im.failed
}

// clockSkew is how far ahead of ours the clock may be that a last_updated was taken from. A time in the future would
// keep a dead token from being removed.
const clockSkew = time.Minute

// readDevice reads a line of an import: what a line of an export has, all of it optional but the token.
func readDevice(body push.JSON, app *App, now time.Time) (push.Device, error) {
	rd := registering{app: app, at: "line"}
	d := push.Device{LastUpdated: now}
	rd.object(rd.at, body, func(name string, v push.JSON) bool {
		switch name {
		case fieldPlatform, fieldToken, fieldSubscription:
			rd.take(name, v)
		case "last_updated", "created_at":
			if v.IsNull() {
				return true
			}
			t, ok := readTime(v)
			if !ok {
				rd.fault("line."+name, "must be a time as in RFC 3339, from 1970 on")
			} else if t.After(now.Add(clockSkew)) {
				rd.fault("line."+name, "must not be in the future")
			}
			if name == "created_at" {
				d.CreatedAt = t
			} else {
				d.LastUpdated = t
			}
		default:
			return rd.field(name, v)
		}
		return true
	})
	if body.IsObject() {
		rd.lineToken()
	}
	r := &rd.registration
	d.Token, d.Address, d.Badge = r.Token, r.Address, r.Badge
	if r.Kind != nil {
		d.Kind = *r.Kind
	}
	d.KindOf = value(r.KindOf)
	if d.CreatedAt.IsZero() {
		d.CreatedAt = d.LastUpdated
	}
	if d.Environment = r.Environment; d.Environment == "" {
		d.Environment = r.DefaultEnvironment
	}
	d.UserID, d.DeviceID = value(r.UserID), value(r.DeviceID)
	d.AppVersion, d.OSVersion = value(r.AppVersion), value(r.OSVersion)
	d.DeviceModel, d.Locale, d.TimeZone = value(r.DeviceModel), value(r.Locale), value(r.TimeZone)
	if r.Tags != nil {
		d.Tags = *r.Tags
	}
	return d, rd.err()
}

// lineToken reads the token in its written form, or makes it of a subscription.
func (rd *registering) lineToken() {
	written := rd.given[fieldToken]
	switch {
	case written == nil && rd.given[fieldSubscription] != nil:
		rd.newToken()
		return
	case written == nil:
		rd.fault(rd.at+".token", "is missing")
		return
	}
	t, err := rd.app.parseToken(written.String())
	if err != nil {
		rd.fault(rd.at+".token", err.Error())
		return
	}
	if rd.platform != nil && !rd.platform.Is(t.PlatformName()) {
		rd.fault(rd.at+".platform", "is not the token's, which is "+t.PlatformName())
	}
	rd.knownToken(t)
	if len(rd.faults) == 0 && rd.needsAddress() {
		rd.missingSubscription()
	}
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
