#!/usr/bin/env bash
# setup.sh [--checks]: installs what building and testing need and the machine lacks; --checks adds the tools of .ci/run.
# Debian 12. Every step looks first and is quick when nothing is missing. What isn't Debian's goes to BASALT_CACHE
# (~/.cache/basalt): Rust, cargo-pgrx, a Python environment, Kafka's libraries, the flights.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
RUST=1.95.0
PGRX=0.18.1
DENY=0.20.2
FLIGHTS=vega-datasets-3.2.1
FLIGHTS_SHA256=dbeb920c90f59b6ccaff823dcc3d08f25a97fa1ce128d93f40be4e931f5900b0

apt_packages() {
    local wanted=(postgresql-15 postgresql-server-dev-15 build-essential clang libclang-dev pkg-config
        libssl-dev zlib1g-dev libzstd-dev ca-certificates curl) missing=() name
    command -v java >/dev/null || wanted+=(openjdk-17-jre-headless)
    command -v mvn >/dev/null || wanted+=(maven)
    system_python -c 'import ensurepip' 2>/dev/null || wanted+=(python3 python3-venv)
    for name in "${wanted[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed* ]] || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "apt-get install ${missing[*]}"
    local root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "These packages are missing: ${missing[*]}" "Install them as root: apt-get install ${missing[*]}"
        root=(sudo)
    fi
    "${root[@]}" apt-get update -q
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null
}

system_python() { PATH=${PATH//"$BASALT_CACHE/venv/bin:"/} python3 "$@"; }

# Rust: the machine's if it is new enough, else one in the cache, which common.sh has in PATH.
rust() {
    local version
    version=$(cargo --version 2>/dev/null | awk '{print $2}') || true
    [ -n "$version" ] && [ "$(printf '%s\n%s\n' "${RUST%.*}" "$version" | sort -V | head -n 1)" = "${RUST%.*}" ] && return 0
    say "Rust $RUST"
    local site=https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu work
    work=$(mktemp -d)
    curl -sSf --retry 3 -o "$work/rustup-init" "$site/rustup-init"
    printf '%s  %s\n' "$(curl -sSf --retry 3 "$site/rustup-init.sha256" | cut -c 1-64)" "$work/rustup-init" | sha256sum --check --quiet
    chmod +x "$work/rustup-init"
    RUSTUP_HOME=$BASALT_CACHE/rust CARGO_HOME=$BASALT_CACHE/rust "$work/rustup-init" -q -y --no-modify-path \
        --profile minimal --component clippy --component rustfmt --default-toolchain "$RUST"
    rm -rf "$work"
    ln -sfn "$(echo "$BASALT_CACHE/rust/toolchains/$RUST"-*)" "$BASALT_CACHE/rust/current"
}

# aarch64: Rust's library for it; .ci/run looks whether the engine compiles there.
aarch64() {
    local target=aarch64-unknown-linux-gnu
    [ -d "$(rustc --print target-libdir --target "$target")" ] && return 0
    say "Rust for $target"
    if [ -x "$BASALT_CACHE/rust/current/bin/rustc" ]; then
        RUSTUP_HOME=$BASALT_CACHE/rust CARGO_HOME=$BASALT_CACHE/rust "$BASALT_CACHE/rust/bin/rustup" -q target add "$target"
    elif command -v rustup >/dev/null; then
        rustup -q target add "$target"
    else
        die "Rust has no library for $target." "Install it, or use a Rust that rustup has installed."
    fi
}

# cargo_tool NAME VERSION: install a cargo subcommand unless this version is there. Unoptimized builds take half the time.
cargo_tool() {
    [ "$(cargo "${1#cargo-}" --version 2>/dev/null | awk '{print $2}')" = "$2" ] && return 0
    say "cargo install $1 $2"
    CARGO_TARGET_DIR=$BASALT_CACHE/tools-target cargo install -q "$1" --version "$2" --locked --debug --root "$BASALT_CACHE/tools"
    rm -rf "$BASALT_CACHE/tools-target"
}

pgrx_home() {
    [ -f "$PGRX_HOME/config.toml" ] && return 0
    mkdir -p "$PGRX_HOME"
    printf '[configs]\npg15 = "%s/pg_config"\n' "$PG_BIN" >"$PGRX_HOME/config.toml"
}

# stamped NAME FILE COMMAND...: run the command unless it has run with this content of FILE.
stamped() {
    local stamp=$BASALT_CACHE/$1.stamp digest
    digest=$(sha256sum <"$2")
    [ "$(cat "$stamp" 2>/dev/null)" = "$digest" ] && return 0
    say "$1"
    "${@:3}"
    printf '%s\n' "$digest" >"$stamp"
}

python_environment() {
    "$PYTHON" -c 'import pip' 2>/dev/null || system_python -m venv --clear "$BASALT_CACHE/venv"
    "$PYTHON" -m pip install -q --disable-pip-version-check -r "$ROOT/pg_test/requirements.txt"
}

kafka() {
    local work
    work=$(mktemp -d)
    cp "$ROOT/scripts/kafka-pom.xml" "$work/pom.xml"
    (cd "$work" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$work/libs")
    rm -rf "$BASALT_CACHE/kafka"
    mkdir -p "$BASALT_CACHE/kafka"
    mv "$work/libs" "$BASALT_CACHE/kafka/libs"
    rm -rf "$work"
}

# Three million real flights of 2001, from an npm package.
flights() {
    local file=$BASALT_CACHE/data/flights-3m.parquet work
    [ -f "$file" ] && return 0
    say "$FLIGHTS"
    work=$(mktemp -d)
    curl -sSf --retry 3 "https://registry.npmjs.org/${FLIGHTS%-*}/-/$FLIGHTS.tgz" | tar xzC "$work" package/data/flights-3m.parquet
    printf '%s  %s\n' "$FLIGHTS_SHA256" "$work/package/data/flights-3m.parquet" | sha256sum --check --quiet
    mkdir -p "$BASALT_CACHE/data"
    mv "$work/package/data/flights-3m.parquet" "$file"
    rm -rf "$work"
}

mkdir -p "$BASALT_CACHE"
exec 9>"$BASALT_CACHE/setup.lock"
flock 9
apt_packages
rust
cargo_tool cargo-pgrx "$PGRX"
pgrx_home
stamped python "$ROOT/pg_test/requirements.txt" python_environment
stamped kafka "$ROOT/scripts/kafka-pom.xml" kafka
flights
if [ "${1:-}" = --checks ]; then
    aarch64
    cargo_tool cargo-deny "$DENY"
fi
