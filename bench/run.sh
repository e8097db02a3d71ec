#!/usr/bin/env bash
# Runs the benchmarks by name and prints markdown tables:
#
#     bench/run.sh [binary] [http2] [fcm] [webpush] [http] [gorush] [broadcast] [flood] [long] [mixed]
#
# Without a name it runs the first seven, in less than 20 minutes on two cores. "long" is the broadcast to 10,000,000, "mixed"
# one message to 1,000,000 devices of three platforms, "flood" an attack with what anybody has.
# LHSPN_BENCH_SHORT=1 makes every run short: it shows that everything works, not how fast it is.
# Everything stays on loopback, is bounded in time and stops by itself.
set -euo pipefail
cd "$(dirname "$0")/.."
sets=("$@")
[ ${#sets[@]} -gt 0 ] || sets=(binary http2 fcm webpush http gorush broadcast)

short=${LHSPN_BENCH_SHORT:-}
mariadb() { # commits are durable where rates are measured; the server gets what a small production server has
    LHSPN_TESTDB_FLUSH=1 LHSPN_TESTDB_POOL="$1" LHSPN_TESTDB_OPTIONS="--innodb-log-file-size=512M" scripts/testdb "${@:2}"
}

bench/build.sh peers
bench/bin/machine
echo "Commit $(git describe --always --dirty 2>/dev/null || echo unknown)."
echo
for set in "${sets[@]}"; do
    case $set in
    binary)
        bench/bin/binary ${short:+-runs 1 -scale 0.1} ;;
    http2)
        bench/bin/http2 ${short:+-runs 1 -scale 0.1} ;;
    fcm)
        bench/bin/fcm ${short:+-runs 1 -scale 0.1} ;;
    webpush)
        bench/bin/webpush ${short:+-runs 1 -scale 0.1} ;;
    http)
        mariadb 512M bench/bin/http ${short:+-warmup 200ms -duration 1s -registry 20000} ;;
    gorush)
        if [ "$(id -u)" -eq 0 ] && [ -x bench/bin/gorush ] && unshare -m true 2>/dev/null; then
            mariadb 512M bench/bin/http -gorush bench/bin/gorush ${short:+-rounds 1 -warmup 200ms -duration 1s}
        else
            echo "gorush is left out: it sends to Apple's host alone, which only root can lead to the simulator" >&2
        fi ;;
    broadcast)
        mariadb 512M bench/bin/broadcast ${short:+-runs 1 -sizes 5000,20000 -probes 10} ;;
    flood)
        mariadb 512M bench/bin/flood ${short:+-connections 500 -rounds 1 -duration 2s -settle 1s -over 1s} ;;
    long)
        mariadb 4G bench/bin/broadcast -runs 1 -sizes 1000000,10000000 -timeout 60m ;;
    mixed)
        mariadb 512M bench/bin/broadcast -mixed 1000000 -runs 2 ${short:+-runs 1 -mixed 20000} ;;
    *)
        echo "run.sh: no set $set: binary, http2, fcm, webpush, http, gorush, broadcast, flood, long, mixed" >&2
        exit 2 ;;
    esac
done
