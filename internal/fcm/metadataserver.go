package fcm

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"cloud.google.com/go/compute/metadata"
)

// metadataServer is that of Google Cloud, which gives the access tokens of the service account that the machine, or
// the workload of the cluster, has. It is at a link-local address; GCE_METADATA_HOST names another.
type metadataServer struct{}

const metadataToken = "instance/service-accounts/default/token"

func (metadataServer) String() string { return "the metadata server" }

func (metadataServer) equal(other tokenSource) bool { return other == metadataServer{} }

func (metadataServer) fetch(ctx context.Context, client *http.Client, now time.Time) (*accessToken, error) {
	w := &witness{next: client.Transport, now: now}
	watched := *client
	watched.Transport = w
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	text, err := metadata.NewClient(&watched).GetWithContext(ctx, metadataToken+"?scopes="+url.QueryEscape(scope))
	if err != nil {
		return nil, w.judge(err)
	}
	return readAccessToken([]byte(text))
}
