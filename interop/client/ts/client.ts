// Drives the service with a client whose types openapi-typescript has made of docs/openapi.json.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[] };

const baseUrl = process.argv[2];
const client = createClient<paths>({ baseUrl, headers: { Authorization: "Bearer lhspn-dev-key" } });
const token = "cd".repeat(32);

function check(ok: boolean, what: string, ...seen: unknown[]): asserts ok {
  if (!ok) throw new Error(`${what}: ${JSON.stringify(seen)}`);
}

const registered = await client.PUT("/v1/tokens/{token}", { params: { path: { token } }, body: { user_id: "u-2", tags: ["beta"] } });
check(registered.data?.user_id === "u-2", "register", registered.error);

const sent = await client.POST("/v1/notifications", { body: { to: { tokens: [token] }, message: { title: "Hello" } } });
check(sent.data !== undefined && "id" in sent.data, "send", sent.error);
for (;;) {
  const got = await client.GET("/v1/notifications/{id}", { params: { path: { id: sent.data.id } } });
  check(got.data !== undefined, "get", got.error);
  if (got.data.state === "done") {
    check(got.data.counts.accepted === 1, "counts", got.data);
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
}

const missing = await client.GET("/v1/tokens/{token}", { params: { path: { token: "ef".repeat(32) } } });
check(missing.error?.type === "urn:lhspn:problem:not-found" && missing.error.status === 404, "an error", missing);

const listed = await client.GET("/v1/tokens", { params: { query: { user_id: "u-2", limit: 10 } } });
check(listed.data?.items?.length === 1, "list", listed.error);

const removed = await client.DELETE("/v1/tokens/{token}", { params: { path: { token } } });
check(removed.response.status === 204, "delete", removed.error);
