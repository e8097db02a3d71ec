#!/usr/bin/env bash
# Runs third-party clients of APNs, FCM and Web Push, unchanged, against the simulator, and the service against a push service and
# a decoder by others; checks what they report and what arrived.
# Needs go, node and npm; fetches the clients from their registries. Ends with "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")"

for tool in go node npm; do
  command -v "$tool" >/dev/null || { echo "interop: $tool is not installed" >&2; exit 2; }
done

work=$(mktemp -d)
simulator='' service=''
finish() {
  for process in $simulator $service; do kill "$process" 2>/dev/null || true; wait "$process" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

for clients in node fcm/node webpush/node webhooks/node console client/ts openapi; do
  if ! cmp -s $clients/package-lock.json $clients/node_modules/.installed-lock; then
    (cd $clients && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error)
    cp $clients/package-lock.json $clients/node_modules/.installed-lock
  fi
done
(cd .. && go build -o "$work/" ./cmd/apns-simulator ./cmd/server)
(cd go && go build -o "$work/interop" .)
(cd fcm/go && go build -o "$work/fcm" .)
(cd webpush/go && go build -o "$work/webpush" .)
(cd h2spec && go build -o "$work/h2spec" .)
# The clients are generated anew each time, and are in no commit.
(cd client/go && mkdir -p api && go tool oapi-codegen -package api -generate types,client -o api/client.go ../../../docs/openapi.json &&
  go build -o "$work/client" .)
(cd client/ts && npx openapi-typescript ../../../docs/openapi.json -o schema.d.ts >/dev/null && npx tsc -p .)

: >"$work/out" # it is read while the program starts
"$work/apns-simulator" --provider 127.0.0.1:0 --gateway 127.0.0.1:0 --feedback 127.0.0.1:0 --fcm 127.0.0.1:0 --webpush 127.0.0.1:0 \
  --page 127.0.0.1:0 \
  --host fcm.googleapis.com,oauth2.googleapis.com,www.googleapis.com \
  --certs "$work/certs" --require-client-cert --verify-provider-tokens >"$work/out" 2>"$work/log" &
simulator=$!
for _ in $(seq 100); do
  if grep -q '^ready$' "$work/out" || ! kill -0 "$simulator" 2>/dev/null; then break; fi
  sleep 0.1
done
grep -q '^ready$' "$work/out" || { cat "$work/out" "$work/log" >&2; exit 1; }

value() { sed -n "s/^$1  *//p" "$work/out"; }
SIM_PROVIDER=$(value 'provider API') SIM_GATEWAY=$(value 'binary gateway') SIM_FEEDBACK=$(value 'feedback service')
SIM_FCM=$(value FCM) SIM_FCM=${SIM_FCM#https://} SIM_FCM=${SIM_FCM%% *}
SIM_PAGE=$(value page) SIM_CERTS=$work/certs
# For the clients that have no option for a CA.
SSL_CERT_FILE=$work/certs/ca.pem NODE_EXTRA_CA_CERTS=$work/certs/ca.pem
SERVICE_PROGRAM=$work/server
export SERVICE_PROGRAM NODE_EXTRA_CA_CERTS SIM_FCM SIM_PROVIDER SIM_GATEWAY SIM_FEEDBACK SIM_PAGE SIM_CERTS SSL_CERT_FILE

passed=0 failed=0
check() {
  local name=$1
  shift
  node -e 'fetch(process.env.SIM_PAGE + "reset", { method: "POST" }).then((r) => process.exit(r.ok ? 0 : 1))'
  if "$@" >"$work/case" 2>&1; then
    passed=$((passed + 1))
    echo "ok    $name"
  else
    failed=$((failed + 1))
    echo "FAIL  $name"
    sed 's/^/      /' "$work/case"
  fi
}

mkdir "$work/dev"
: >"$work/dev/out"
(cd "$work/dev" && exec env -u SERVICE_PROGRAM LHSPN_LISTEN=127.0.0.1:0 LHSPN_OPS_LISTEN=127.0.0.1:0 "$work/server") >"$work/dev/out" 2>"$work/dev/log" &
service=$!
for _ in $(seq 100); do
  if grep -q '^  API  ' "$work/dev/out" || ! kill -0 "$service" 2>/dev/null; then break; fi
  sleep 0.1
done
SERVICE_API=$(sed -n 's/^  API   *\(http[^ ]*\).*/\1/p' "$work/dev/out")
[ -n "$SERVICE_API" ] || { cat "$work/dev/out" "$work/dev/log" >&2; exit 1; }

check 'API:      oapi-codegen 2, a Go client of docs/openapi.json' "$work/client" "$SERVICE_API"
check 'API:      npm openapi-typescript 7.13.0 and openapi-fetch 0.17.0' node client/ts/out/client.js "$SERVICE_API"
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
check 'API:      npm @redocly/cli 2.77.0 finds no fault in docs/openapi.json' \
  openapi/node_modules/.bin/redocly lint --config openapi/redocly.yaml ../docs/openapi.json
check 'API:      npm @stoplight/spectral-cli 6.16.3 finds none' \
  openapi/node_modules/.bin/spectral lint --ruleset openapi/spectral.yaml --fail-severity hint --display-only-failures ../docs/openapi.json
check 'API:      npm @stoplight/prism-cli 5.14.2 finds none in what every operation takes and answers' node openapi/exercise.js
check 'HTTP/2:   h2specd of summerwind/h2spec 2.2.1, against the client' "$work/h2spec"
check 'HTTP/2:   h2spec 2.2.1, against the simulated provider API' "$work/h2spec" "$SIM_PROVIDER"
check 'HTTP/2:   h2spec 2.2.1, against the simulated FCM' "$work/h2spec" "$SIM_FCM"
check 'binary:   npm apn 1.7.8 (command 2, feedback)' node node/apn1.js
check 'binary:   joekarl/go-libapns 3.0.0 (command 2, feedback)' "$work/interop" go-libapns
check 'binary:   timehop/apns (command 2, feedback)' "$work/interop" timehop
check 'binary:   anachronistic/apns (command 2)' "$work/interop" anachronistic
check 'provider: sideshow/apns2 0.25.0, provider token' "$work/interop" sideshow-token
check 'provider: sideshow/apns2 0.25.0, certificate' "$work/interop" sideshow-cert
check 'provider: sideshow/apns2 0.25.0, GOAWAY every 2' "$work/interop" sideshow-shutdown
check 'provider: npm @parse/node-apn 8.1.0, provider token' node node/node-apn.js token
check 'provider: npm @parse/node-apn 8.1.0, certificate' node node/node-apn.js certificate
check 'provider: npm apns2 12.2.0' node node/apns2.js
check 'FCM:      firebase.google.com/go 4.19.0, SendEach' "$work/fcm"
check 'FCM:      npm firebase-admin 14.5.1, sendEach' node -r ./fcm/node/redirect.js fcm/node/firebase-admin.js
check 'FCM:      npm fcm-v1-http2 1.0.12, sendMulticast' node -r ./fcm/node/redirect.js fcm/node/fcm-v1-http2.js
check 'Web Push: SherClockHolmes/webpush-go 1.4.0' "$work/webpush"
check 'Web Push: npm web-push 3.6.7' node webpush/node/web-push.js
check 'Web Push: npm @block65/webcrypto-web-push 2.0.0' node webpush/node/webcrypto-web-push.mjs
check 'Web Push: the service to npm web-push-testing 1.2.2 and a browser with http_ece 1.2.1' node webpush/node/our-sender.js
check 'webhooks: npm standardwebhooks 1.1.1, and the receiver of docs/webhooks.md' node webhooks/node/receivers.mjs

if chromium=$(command -v chromium || command -v google-chrome); then
  (cd browser && go build -o "$work/browser" .)
  check 'browser:  headless Chromium, the page and the service worker of docs/webpush, with receipts' \
    "$work/browser" -server "$work/server" -docs ../docs/webpush -chromium "$chromium"
  (cd console && go build -o "$work/console" .)
  check "browser:  headless Chromium walks the operators' console; axe-core 4.14.1 examines it" \
    "$work/console" -server "$work/server" -axe console/node_modules/axe-core/axe.min.js -chromium "$chromium"
else
  echo "left out: Chromium is not installed (Debian: chromium)"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
