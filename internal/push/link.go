package push

import (
	"errors"
	"net/url"
	"slices"
)

var (
	errNoLink = errors.New("must be an absolute URL, as in https://example.com/orders/4711 or example://orders/4711")
	// errNoPlace is for a scheme of noPlaces.
	errNoPlace = errors.New("must be a place to go to, as in https://example.com/orders/4711 or example://orders/4711: " +
		"URLs that run or hold what they say, or name a file, are not taken")
)

// noPlaces are the schemes of URLs that run or hold what they say (javascript:, data:), or are of the device itself. An
// app that opens what its notifications say would run it, or give its files away.
var noPlaces = []string{
	"javascript", "vbscript", "data", "blob", "file", "filesystem", "content", "about", "view-source",
}

// CheckLink says what is wrong with an absolute URL that a tap opens. Schemes of apps' own are taken.
func CheckLink(link string) error {
	u, err := url.Parse(link)
	switch {
	case err != nil, !u.IsAbs(), (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() == "":
		return errNoLink
	case slices.Contains(noPlaces, u.Scheme):
		return errNoPlace
	}
	return nil
}

// CheckReference is CheckLink for a URL that may also be relative to a page.
func CheckReference(link string) error {
	u, err := url.Parse(link)
	if err != nil {
		return errors.New("must be a URL")
	}
	if !u.IsAbs() {
		return nil
	}
	return CheckLink(link)
}
