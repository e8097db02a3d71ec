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

// Watch tells of changes.
type Watch struct {
	// Quiet is how long folders must be quiet before changed is called: a file is seldom replaced in one step. Most is how
	// long that is waited for at the most: something else may be written in the folder all the time. Again is when it is
	// called although nothing was seen to change: not every file system tells, and a folder above the file's own may have
	// been replaced, by a symbolic link to the next release say. They are not changed once Run runs.
	Quiet, Most, Again time.Duration

	log *slog.Logger

	mu      sync.Mutex        // guards what follows
	folders map[string]int    // by how many files each is watched for
	watcher *fsnotify.Watcher // Run's; nil before it, and where there is none
}

// New returns a Watch of nothing. It starts nothing: Run does.
func New(log *slog.Logger) *Watch {
	return &Watch{
		Quiet: 500 * time.Millisecond, Most: 3 * time.Second, Again: time.Minute, log: log, folders: map[string]int{},
	}
}

// Add has a file watched until stop. It watches the folder, as a file that is replaced by renaming, or by a change of
// symbolic links as Kubernetes does it, is another file.
func (w *Watch) Add(file string) (stop func()) {
	folder := filepath.Dir(file)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.folders[folder]++; w.folders[folder] == 1 {
		w.watch(folder)
	}
	return func() { w.remove(folder) }
}

func (w *Watch) remove(folder string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.folders[folder]--; w.folders[folder] > 0 {
		return
	}
	delete(w.folders, folder)
	if w.watcher != nil {
		_ = w.watcher.Remove(folder) // it may be gone itself
	}
}

// watch is called with mu held.
func (w *Watch) watch(folder string) {
	if w.watcher == nil {
		return
	}
	if err := w.watcher.Add(folder); err != nil {
		w.log.Warn("a folder is not watched, and only looked into from time to time", "folder", folder, "every", w.Again,
			"error", err)
	}
}

// Run calls changed when files may have changed, and whenever ask has something, until ctx ends.
func (w *Watch) Run(ctx context.Context, ask <-chan struct{}, changed func()) {
	var events <-chan fsnotify.Event
	var errs <-chan error
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("files are not watched, and only looked into from time to time", "every", w.Again, "error", err)
	} else {
		defer func() { _ = watcher.Close() }()
		events, errs = watcher.Events, watcher.Errors
		w.mu.Lock()
		w.watcher = watcher
		for folder := range w.folders {
			w.watch(folder)
		}
		w.mu.Unlock()
	}
	timer := time.NewTimer(w.Quiet) // what changed before the watch was set up
	defer timer.Stop()
	var since time.Time // of the first event that changed was not called for yet
	saw := func() {
		if since.IsZero() {
			since = time.Now()
		}
		timer.Reset(min(w.Quiet, w.Most-time.Since(since)))
	}
	tell := func() {
		since = time.Time{}
		changed()
		timer.Reset(w.Again)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ask:
			tell()
		case _, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			saw()
		case err, ok := <-errs: // events may have been lost
			if !ok {
				errs = nil
				continue
			}
			w.log.Warn("watching files", "error", err)
			saw()
		case <-timer.C:
			tell()
		}
	}
}
