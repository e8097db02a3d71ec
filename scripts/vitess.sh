# shellcheck shell=bash
# Vitess for scripts/vitess and scripts/vtcombo, which source this file: builds its programs where they are not there yet, leaves
# their folder in vitess, and says how the servers below it are started.
#
# The programs are those of tools/vitess/go.mod, built into LHSPN_VITESS_BIN (.tools/vitess by default), once: about 15 minutes of
# a processor. The MySQL below them is that of scripts/mysql.sh.

# shellcheck source=scripts/mysql.sh
. "$(dirname "$0")/mysql.sh"

tools=$(cd "$(dirname "$0")/.." && pwd)
vitess=${LHSPN_VITESS_BIN:-$tools/.tools/vitess}
export -n LHSPN_VITESS_BIN # the service takes no variables of ours that it does not know
for program in vtcombo vtgate vttablet vtctldclient; do
    if [ ! -x "$vitess/$program" ]; then
        echo "vitess: building Vitess into $vitess" >&2
        mkdir -p "$vitess"
        (cd "$tools/tools/vitess" && CGO_ENABLED=0 go build -o "$vitess/" tool) >&2
        break
    fi
done

# as_user runs a program as the user that may be none but root's, in the place of this shell: Vitess, too, refuses root.
as_user() {
    if [ "$(id -u)" -eq 0 ]; then exec setsid setpriv --reuid=mysql --regid=mysql --clear-groups "$@"; else exec setsid "$@"; fi
}

# free_ports leaves $1 ports in the array ports, below the range from which the system takes those of outgoing connections.
free_ports() {
    local port
    ports=()
    while [ ${#ports[@]} -lt "$1" ]; do
        port=$((20000 + RANDOM % 12000))
        if [[ " ${ports[*]} " != *" $port "* ]] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then ports+=("$port"); fi
    done
}

# The folder $1 is a server's: made here, with the users that Vitess comes as.
make_server() {
    mkdir -p "$1"
    if [ "$(id -u)" -eq 0 ]; then chown mysql "$1"; fi
    cat >"$1/users.sql" <<SQL
CREATE DATABASE IF NOT EXISTS _vt;
CREATE USER vt_dba@localhost;
GRANT ALL ON *.* TO vt_dba@localhost WITH GRANT OPTION;
SQL
    if ! "${run[@]}" "$root/usr/sbin/mysqld" "${common[@]}" --initialize-insecure --init-file="$1/users.sql" --datadir="$1/data" >"$1/log" 2>&1; then
        echo "vitess: mysqld --initialize failed:" >&2
        tail -n 20 "$1/log" >&2
        return 1
    fi
}

# mysqld_below runs the server of the folder $1, on the port $2 and with the id $3, in the place of this shell.
mysqld_below() {
    # shellcheck disable=SC2086  # options are separated by spaces
    exec setsid "${run[@]}" "$root/usr/sbin/mysqld" "${common[@]}" --datadir="$1/data" --socket="$1/sock" --pid-file="$1/mysqld.pid" \
        --bind-address=127.0.0.1 --port="$2" --server-id="$3" --mysqlx=OFF --skip-name-resolve --max-connections=1000 \
        --gtid-mode=ON --enforce-gtid-consistency=ON --log-bin=binlog --binlog-expire-logs-seconds=3600 --sync-binlog=0 \
        --performance-schema=OFF --innodb-buffer-pool-size="${LHSPN_TESTDB_POOL:-64M}" \
        --innodb-flush-log-at-trx-commit="${LHSPN_TESTDB_FLUSH:-2}" ${LHSPN_TESTDB_OPTIONS:-} >>"$1/log" 2>&1 </dev/null
}

# await waits until a command succeeds: await WHAT LOG COMMAND...
await() {
    local what=$1 log=$2
    shift 2
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    echo "vitess: $what did not come up:" >&2
    tail -n 30 "$log" >&2
    return 1
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

mysql_client() { "${run[@]}" "$root/usr/bin/mysql" --no-defaults --connect-timeout=2 "$@"; }

# vschema is how device_tokens, device_token_index and token_usage are divided among the shards of a keyspace: by their app.
vschema='{"sharded": true, "vindexes": {"app": {"type": "xxhash"}}, "tables": {
    "device_tokens": {"column_vindexes": [{"column": "app", "name": "app"}]},
    "device_token_index": {"column_vindexes": [{"column": "app", "name": "app"}]},
    "token_usage": {"column_vindexes": [{"column": "app", "name": "app"}]}}}'

# routes prints the rules, without their brackets, by which the keyspace $1 finds these tables in the keyspace $2.
routes() {
    local table comma=''
    for table in device_tokens device_token_index token_usage; do
        printf '%s{"fromTable": "%s.%s", "toTables": ["%s.%s"]}' "$comma" "$1" "$table" "$2" "$table"
        comma=', '
    done
}
