# shellcheck shell=bash
# Oracle's MySQL for scripts/mysqldb and scripts/group-replication, which source this file: fetches it where it is not there yet,
# and leaves its folder in root, how its programs are started in run, and what all of them want to be told in common.
#
# The server is Debian unstable's mysql-server-core, and is never installed: its packages with everything they need, libc too,
# are fetched with apt into a state of their own and unpacked into LHSPN_MYSQL_ROOT (.tools/mysql by default), and its programs
# are started by their own loader. That is about 65 MB to fetch and 410 MB unpacked, once.

root=${LHSPN_MYSQL_ROOT:-$(cd "$(dirname "$0")/.." && pwd)/.tools/mysql}
export -n LHSPN_MYSQL_ROOT # the service takes no variables of ours that it does not know
fetch() {
    local apt mirror
    apt=$(mktemp -d)
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial}
    : >"$apt/status"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | sed -n '\,/debian/*$,{p;q}')
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?no Debian mirror among the apt sources} sid main" \
        >"$apt/sources.list"
    local options=(-qq -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache"
        -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o APT::Sandbox::User=root -o APT::Install-Recommends=false)
    apt-get "${options[@]}" update
    apt-get "${options[@]}" install -y --download-only mysql-server-core mysql-client-core
    rm -rf "$root.new"
    mkdir -p "$root.new"
    for deb in "$apt"/cache/archives/*.deb; do dpkg -x "$deb" "$root.new"; done
    rm -rf "$apt"
    mv "$root.new" "$root"
}
if [ ! -x "$root/usr/sbin/mysqld" ]; then
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        echo "mysql: MySQL is fetched with apt-get. Elsewhere set LHSPN_TEST_MYSQL to a server where databases may be made" >&2
        exit 1
    fi
    echo "mysql: fetching MySQL from Debian's unstable" >&2
    fetch >&2
fi

loader=$(find "$root/usr/lib" -name 'ld-linux-*.so.*' | head -n 1)
run=("$loader" --library-path "$(dirname "$loader")")
common=(--no-defaults --basedir="$root/usr" --lc-messages-dir="$root/usr/share/mysql"
    --character-sets-dir="$root/usr/share/mysql/charsets" --plugin-dir="$root/usr/lib/mysql/plugin" --secure-file-priv=)

# may_read gives the folder to the user that the server runs as where that must not be root, and has it run as that user.
may_read() {
    if [ "$(id -u)" -eq 0 ]; then
        id mysql >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin mysql
        chown mysql "$1"
        common+=(--user=mysql)
    fi
}
