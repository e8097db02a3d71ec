// Command client drives the service with a client that oapi-codegen has made of docs/openapi.json: it registers a device
// token, sends to it, reads what became of it and meets an error. The service's URL is its argument, and the keys of dev
// mode are used.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/lhspn/lhspn/interop/client/go/api"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func with(key string) api.ClientOption {
	return api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+key)
		return nil
	})
}

func run(ctx context.Context, url string) error {
	c, err := api.NewClientWithResponses(url, with("lhspn-dev-key"))
	if err != nil {
		return err
	}
	token := strings.Repeat("ab", 32)
	user := "u-1"
	registered, err := c.RegisterTokenWithResponse(ctx, token, &api.RegisterTokenParams{}, api.RegisterTokenJSONRequestBody{UserId: &user})
	if err != nil {
		return err
	}
	if registered.JSON201 == nil || registered.JSON201.Token != token || *registered.JSON201.UserId != user {
		return fmt.Errorf("register: %s", registered.Body)
	}
	key, title := "once", "Hello"
	for range 2 { // the second is a repetition
		sent, err := c.SendWithResponse(ctx, &api.SendParams{IdempotencyKey: &key}, api.SendJSONRequestBody{
			To: api.Audience{Tokens: &[]string{token}}, Message: &api.Message{Title: &title},
		})
		if err != nil {
			return err
		}
		if sent.JSON202 == nil || *sent.JSON202.Recipients != 1 {
			return fmt.Errorf("send: %s", sent.Body)
		}
		for {
			got, err := c.GetNotificationWithResponse(ctx, sent.JSON202.Id)
			if err != nil {
				return err
			}
			if got.JSON200 == nil {
				return fmt.Errorf("get: %s", got.Body)
			}
			if got.JSON200.State == "done" {
				if got.JSON200.Counts.Accepted != 1 {
					return fmt.Errorf("counts %+v", got.JSON200.Counts)
				}
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	wrong, err := c.SendWithResponse(ctx, &api.SendParams{}, api.SendJSONRequestBody{To: api.Audience{}})
	if err != nil {
		return err
	}
	if wrong.ApplicationproblemJSON422 == nil || wrong.ApplicationproblemJSON422.Type != "urn:lhspn:problem:invalid" {
		return fmt.Errorf("an error: %s", wrong.Body)
	}
	listed, err := c.ListTokensWithResponse(ctx, &api.ListTokensParams{UserId: &user})
	if err != nil {
		return err
	}
	if listed.JSON200 == nil || len(listed.JSON200.Items) != 1 {
		return fmt.Errorf("list: %s", listed.Body)
	}
	operator, err := api.NewClientWithResponses(url, with("lhspn-dev-operator-key"))
	if err != nil {
		return err
	}
	apps, err := operator.ListAppsWithResponse(ctx)
	if err != nil {
		return err
	}
	if apps.JSON200 == nil || len(apps.JSON200.Items) != 2 { // its own, and that of the examples
		return fmt.Errorf("apps: %s", apps.Body)
	}
	deleted, err := c.DeleteTokenWithResponse(ctx, token)
	if err == nil && deleted.StatusCode() != http.StatusNoContent {
		err = fmt.Errorf("delete: %s", deleted.Status())
	}
	return err
}
