package main

import (
	"errors"
	"io"

	"github.com/lhspn/lhspn/internal/config"
)

// errLogged says that the error is in the log already.
var errLogged = errors.New("logged")

// logFatal writes why serve ends as the log is written, where that is for machines: what collects it reads no plain
// text. It returns the error itself where the log is for people.
func logFatal(c config.Log, err error, stderr io.Writer) error {
	if err == nil || logFormat(c, stderr) == "text" {
		return err
	}
	log, _ := newLogger(c, stderr)
	if faults := (config.Faults)(nil); errors.As(err, &faults) {
		for _, f := range faults {
			log.Error("the service does not start: the configuration is wrong", "setting", f.Setting, "error", f.String())
		}
		return errLogged
	}
	log.Error("the service ends", "error", err)
	return errLogged
}
