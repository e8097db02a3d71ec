package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/lhspn/lhspn/internal/push"
)

// functions are what the templates have beside html/template's own. None makes HTML.
var functions = template.FuncMap{
	"number": number,
	"rate":   rate,
	"clock":  func(t time.Time) string { return t.UTC().Format("15:04:05") },
	"stamp":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"ago":    ago,
	"span":   span,
	"short":  func(t push.Token) string { return t.Short() },
	"pretty": pretty,
	"cut":    cut,
	"head":   func(s string) string { return s[:min(8, len(s))] },
	"plural": func(n int, one, many string) string {
		if n == 1 {
			return "1 " + one
		}
		return number(n) + " " + many
	},
	"join": strings.Join,
	"dict": func(pairs ...any) map[string]any {
		m := make(map[string]any, len(pairs)/2)
		for i := 0; i+1 < len(pairs); i += 2 {
			m[fmt.Sprint(pairs[i])] = pairs[i+1]
		}
		return m
	},
}

// number groups the digits of what has more than four, as 1 234 567 with thin spaces.
func number(v any) string {
	text := fmt.Sprint(v)
	if len(text) <= 4 {
		return text
	}
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

func rate(v float32) string {
	switch {
	case v == 0:
		return "0"
	case v < 10:
		return strconv.FormatFloat(float64(v), 'f', 1, 32)
	}
	return number(int64(v + 0.5))
}

// ago is how long t is before now, or how long it is to come.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	if d < 0 {
		return "in " + span(-d)
	}
	if d < time.Second {
		return "just now"
	}
	return span(d) + " ago"
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + " days"
}

// longestText is how much of a text of somebody else's is shown.
const longestText = 8 << 10

// pretty is JSON in lines.
func pretty(text []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, text, "", "  ") != nil {
		return cut(string(text), longestText)
	}
	return cut(b.String(), longestText)
}

// cut is the text's beginning, whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
