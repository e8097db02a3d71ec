//go:build !linux

package main

import "runtime/debug"

// leaveStart gives back what only starting has needed.
func leaveStart() { debug.FreeOSMemory() }
