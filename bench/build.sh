#!/usr/bin/env bash
# Builds what the benchmarks and chaos runs start, into bench/bin; with "peers" also the clients of others.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p bench/bin
CGO_ENABLED=0 go build -trimpath -o bench/bin/ ./cmd/server ./cmd/apns-simulator \
    ./bench/binary ./bench/http2 ./bench/webpush ./bench/http ./bench/broadcast ./bench/footprint ./bench/chaos ./bench/machine
if [ "${1:-}" = peers ]; then
    (cd bench/peers && CGO_ENABLED=0 go build -trimpath -o ../bin/ ./libapns ./anachronistic ./apns2 ./webpushgo)
    if command -v npm >/dev/null; then
        [ -d bench/npm/node_modules ] || (cd bench/npm && npm ci --no-audit --no-fund --silent)
    else
        echo "npm is not installed: the npm clients cannot run" >&2
        exit 1
    fi
fi
