#!/usr/bin/env bash
# Builds what the benchmarks and chaos runs start, into bench/bin; with "peers" also the clients of others.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p bench/bin
CGO_ENABLED=0 go build -trimpath -o bench/bin/ ./cmd/server ./cmd/apns-simulator \
    ./bench/binary ./bench/http2 ./bench/fcm ./bench/webpush ./bench/http ./bench/flood ./bench/broadcast ./bench/footprint ./bench/chaos ./bench/machine
if [ "${1:-}" = peers ]; then
    (cd bench/peers && CGO_ENABLED=0 go build -trimpath -o ../bin/ ./libapns ./anachronistic ./apns2 ./webpushgo)
    (cd bench/peers/fcm && CGO_ENABLED=0 go build -trimpath -o ../../bin/ ./fcm-firebase)
    (cd bench/peers/gorush && CGO_ENABLED=0 go build -trimpath -o ../../bin/ github.com/appleboy/gorush)
    if command -v npm >/dev/null; then
        if ! cmp -s bench/npm/package-lock.json bench/npm/node_modules/.installed-lock; then
            (cd bench/npm && npm ci --no-audit --no-fund --silent && cp package-lock.json node_modules/.installed-lock)
        fi
    else
        echo "npm is not installed: the npm clients cannot run" >&2
        exit 1
    fi
fi
