#!/usr/bin/env bash
# Kills the service with SIGKILL again and again while it sends, and checks that nothing was lost or miscounted:
#
#     bench/chaos.sh [rounds] [platforms] [replicas] [rolling] [webhooks] [server] [galera] [mysql] [group] [vitess]
#
# Without a name it runs the first six, in about 17 minutes; galera takes about 3, mysql (rounds, replicas and server on Oracle
# MySQL 9) about 3, group (three MySQL servers with Group Replication) about 3, and vitess about 5. LHSPN_CHAOS_SHORT=1 makes fewer
# rounds of each, with fewer tokens.
# Everything stays on loopback, is bounded in time and stops by itself; only processes started here are killed, by their id.
set -euo pipefail
cd "$(dirname "$0")/.."
plays=("$@")
[ ${#plays[@]} -gt 0 ] || plays=(rounds platforms replicas rolling webhooks server)

short=${LHSPN_CHAOS_SHORT:-}
bench/build.sh
for play in "${plays[@]}"; do
    case $play in
    rounds)
        scripts/testdb bench/bin/chaos -mode rounds -lease 3s ${short:+-rounds 3 -tokens 20000} ;;
    platforms)
        scripts/testdb bench/bin/chaos -mode platforms -lease 3s -rounds 8 -tokens 60000 -transports http2 ${short:+-rounds 4 -tokens 10000} ;;
    replicas)
        LHSPN_TESTDB_POOL=256M scripts/testdb bench/bin/chaos -mode replicas -tokens 300000 -rounds 5 -transports http2 \
            ${short:+-rounds 3 -tokens 30000} ;;
    rolling)
        scripts/testdb bench/bin/chaos -mode rolling -tokens 100000 -rounds 10 ${short:+-rounds 2 -tokens 20000} ;;
    webhooks) # -tokens are the notifications of a round; with -receiver "node interop/webhooks/node/keep.mjs" npm's library verifies
        scripts/testdb bench/bin/chaos -mode webhooks -lease 3s -tokens 200 -transports http2 ${short:+-rounds 3 -tokens 50} ;;
    server)
        LHSPN_TESTDB_RESTART=2 scripts/testdb bench/bin/chaos -mode server -tokens 100000 -rounds 5 -transports http2 \
            ${short:+-rounds 2 -tokens 20000} ;;
    galera)
        LHSPN_TESTDB_POOL=128M scripts/galera bench/bin/chaos -mode galera -tokens 100000 -rounds 3 -transports http2 \
            ${short:+-rounds 1 -tokens 20000} ;;
    mysql)
        scripts/mysqldb bench/bin/chaos -mode rounds -engines mysql -lease 3s -rounds 3 -tokens 20000
        LHSPN_TESTDB_POOL=256M scripts/mysqldb bench/bin/chaos -mode replicas -tokens 100000 -rounds 3 -transports http2 \
            ${short:+-rounds 2 -tokens 30000}
        LHSPN_TESTDB_RESTART=2 scripts/mysqldb bench/bin/chaos -mode server -tokens 100000 -rounds 3 -transports http2 \
            ${short:+-rounds 2 -tokens 20000} ;;
    group)
        LHSPN_TESTDB_POOL=128M scripts/group-replication bench/bin/chaos -mode group -tokens 100000 -rounds 6 -transports http2 \
            ${short:+-rounds 3 -tokens 20000} ;;
    vitess) # each process of the cluster dies once
        scripts/vitess bench/bin/chaos -mode vitess -tokens 100000 -rounds 7 -transports http2 ${short:+-tokens 20000} ;;
    *)
        echo "chaos.sh: no play $play: rounds, platforms, replicas, rolling, webhooks, server, galera, mysql, group, vitess" >&2
        exit 2 ;;
    esac
done
