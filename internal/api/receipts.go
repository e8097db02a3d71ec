package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/lhspn/lhspn/internal/push"
)

const (
	// pathReceipts is where devices tell what became of a notification.
	pathReceipts = "/v1/receipts"
	// maxReceipt is the length in bytes of a receipt's body.
	maxReceipt = 1 << 10
	// maxTicket is what a ticket may have; a longer one is none of ours, and so is a shorter one.
	maxTicket = 64
)

// postReceipt takes what a device says of a notification. The ticket is all that it shows: one that is forged, or of a
// notification that is not kept any more, is answered as a good one is, so that nobody learns which are good.
func (a *API) postReceipt(ctx context.Context, x *exchange, r *http.Request) error {
	var ticket string
	var kind push.ReceiptKind
	err := x.readBody(r, maxReceipt, func(body push.JSON) error {
		var rd reader
		if body == nil {
			rd.fault("body", "is missing")
			return rd.err()
		}
		given := false
		rd.object("body", body, func(name string, v push.JSON) bool {
			switch name {
			case "ticket":
				if given = true; !v.IsString() {
					rd.fault("body.ticket", "must be a string")
				} else if text := v.Text(); len(text) <= maxTicket {
					ticket = string(text)
				}
			case "event":
				switch {
				case v.Is("delivered"):
					kind = push.Delivered
				case v.Is("opened"):
					kind = push.Opened
				}
			default:
				return false
			}
			return true
		})
		if !given && body.IsObject() {
			rd.fault("body.ticket", "is missing: the member lhspn of the payload")
		}
		if kind == 0 && body.IsObject() {
			rd.fault("body.event", "must be one of: delivered, opened")
		}
		return rd.err()
	})
	if err != nil {
		return err
	}
	switch err := a.notifications.Receive(ctx, ticket, kind); {
	case errors.Is(err, push.ErrBacklogFull):
		return explain(err, "Too many receipts wait to be counted.")
	case err != nil:
		return err
	}
	x.WriteHeader(http.StatusNoContent)
	return nil
}
