// Package filewatch tells when files may have changed: when something happens in their folders, and from time to time,
// for not every file system tells. What is in the files is for others to read.
package filewatch

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long folders must be quiet before their files are looked at: a file is seldom replaced in one step.
	quiet = 500 * time.Millisecond
	// again is when they are looked at although nothing was seen to change.
	again = time.Minute
)

// Watch tells of changes.
type Watch struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	folders map[string]bool
	watcher *fsnotify.Watcher // Run's; nil before it, and where there is none
}

// New returns a Watch of nothing. It starts nothing: Run does.
func New(log *slog.Logger) *Watch { return &Watch{log: log, folders: map[string]bool{}} }

// Set has the folders of these files watched, and no others. It watches folders, as a file that is replaced by renaming
// is another file.
func (w *Watch) Set(files []string) {
	folders := map[string]bool{}
	for _, file := range files {
		folders[filepath.Dir(file)] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for folder := range folders {
		if !w.folders[folder] {
			w.add(folder)
		}
	}
	for folder := range w.folders {
		if !folders[folder] && w.watcher != nil {
			_ = w.watcher.Remove(folder) // it may be gone itself
		}
	}
	w.folders = folders
}

// add is called with mu held.
func (w *Watch) add(folder string) {
	if w.watcher == nil {
		return
	}
	if err := w.watcher.Add(folder); err != nil {
		w.log.Warn("a folder is not watched, and only looked into from time to time", "folder", folder, "every", again,
			"error", err)
	}
}

// Run calls changed when files may have changed, and whenever ask has something, until ctx ends.
func (w *Watch) Run(ctx context.Context, ask <-chan struct{}, changed func()) {
	var events <-chan fsnotify.Event
	var errs <-chan error
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("files are not watched, and only looked into from time to time", "every", again, "error", err)
	} else {
		defer func() { _ = watcher.Close() }()
		events, errs = watcher.Events, watcher.Errors
		w.mu.Lock()
		w.watcher = watcher
		for folder := range w.folders {
			w.add(folder)
		}
		w.mu.Unlock()
	}
	timer := time.NewTimer(quiet) // what changed before the watch was set up
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ask:
			changed()
			timer.Reset(again)
		case _, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			timer.Reset(quiet)
		case _, ok := <-errs: // events may have been lost
			if !ok {
				errs = nil
				continue
			}
			timer.Reset(quiet)
		case <-timer.C:
			changed()
			timer.Reset(again)
		}
	}
}
