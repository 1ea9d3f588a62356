# Sourced by the scripts: where things are, and a few words. Bash.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export BASALT_CACHE=${BASALT_CACHE:-$HOME/.cache/basalt}
export PGRX_HOME=${PGRX_HOME:-$BASALT_CACHE/pgrx}
export PATH=$BASALT_CACHE/tools/bin:$BASALT_CACHE/rust/current/bin:$PATH
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
# Without it cargo and cargo-pgrx use different linker flags, and each rebuilds what the other built.
export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1
PG_BIN=/usr/lib/postgresql/15/bin
PYTHON=$BASALT_CACHE/venv/bin/python

say() { printf '== %s\n' "$*"; }
die() {
    printf '%s\n' "$@" >&2
    exit 1
}

# timed NAME COMMAND...: run it and print how long it took; its exit status is the command's.
timed() {
    local name=$1 start=$SECONDS status=0
    shift
    say "$name"
    "$@" || status=$?
    TIMINGS+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
    return $status
}
TIMINGS=()
