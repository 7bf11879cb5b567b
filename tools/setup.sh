#!/usr/bin/env bash
# Makes .venv with everything e3mega needs on Python 3.12; does nothing when nothing changed.
#
# usage: tools/setup.sh [EXTRAS]
# EXTRAS is a list such as "cpu,dev" or "cuda,dev"; left out, it is what .venv was last made with,
# "cpu,dev,cluster" at first. Uses uv: the one on PATH, else one installed into .uv/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly UV_VERSION=0.13.9
readonly STAMP=.venv/e3mega-setup.txt
# Where the system keeps its certificates uv uses them too: a site's proxy may have its own.
if [[ -e /etc/ssl/certs/ca-certificates.crt || -e /etc/pki/tls/certs/ca-bundle.crt ]]; then
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"
fi

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# A pyenv shim exists for versions that do not run, and a self-built Python may lack modules.
is_python() {
    "$1" -c "import sys; assert sys.version_info[:2] $2
import bz2, ctypes, lzma, sqlite3, ssl, zlib" >/dev/null 2>&1
}

pyenv_pythons() {
    local root
    for root in "${PYENV_ROOT:-}" "${HOME:-/nonexistent}/.pyenv"; do
        [[ -d "$root/versions" ]] || continue
        find "$root/versions" -maxdepth 3 -path "*/$1/bin/python3" 2>/dev/null | sort -rV
    done
}

# Prints the path of a Python 3.12 that runs, or "3.12" for uv to fetch one.
find_python() {
    local candidate
    while read -r candidate; do
        if is_python "$candidate" '== (3, 12)'; then
            printf '%s\n' "$candidate"
            return
        fi
    done < <(
        type -aP python3.12 python3 python || true
        pyenv_pythons '3.12*'
    )
    printf '3.12\n'
}

install_uv() {
    local python
    while read -r python; do
        is_python "$python" '>= (3, 8)' || continue
        rm -rf .uv
        if "$python" -m pip install --quiet --target .uv "uv==$UV_VERSION" >&2; then
            return
        fi
        rm -rf .uv
        if "$python" -m venv .uv >&2 && .uv/bin/python -m pip install --quiet "uv==$UV_VERSION" >&2; then
            return
        fi
    done < <(
        type -aP python3.12 python3 python || true
        pyenv_pythons '3.*'
    )
    rm -rf .uv
    fail "uv is not on PATH and no Python here could install it; install uv and run this again"
}

# Prints the uv to use: .uv/bin/uv, else one on PATH that runs, else a fresh .uv/bin/uv.
find_uv() {
    local candidate
    for candidate in "$PWD/.uv/bin/uv" "$(type -P uv || true)"; do
        if [[ -n "$candidate" ]] && "$candidate" --version >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "installing uv $UV_VERSION into .uv" >&2
    install_uv
    printf '%s\n' "$PWD/.uv/bin/uv"
}

# What .venv depends on, as one text.
wanted() {
    printf 'extras %s\ncheckout %s\n' "$1" "$PWD"
    sha256sum pyproject.toml overrides.txt constraints.txt constraints-cuda.txt tools/setup.sh tools/write_bytecode.py
}

main() {
    local made_with="" extras constraints python uv
    if [[ -f "$STAMP" ]]; then
        made_with="$(sed -n 's/^extras //p' "$STAMP")"
    fi
    extras="${1:-${made_with:-cpu,dev,cluster}}"
    [[ "$extras" =~ ^[a-z]+(,[a-z]+)*$ ]] || fail "EXTRAS is a list such as cpu,dev; got '$extras'"
    if [[ -f "$STAMP" && "$(wanted "$extras")" == "$(cat "$STAMP")" ]]; then
        return
    fi
    constraints=constraints.txt
    if [[ ",$extras," == *,cuda,* ]]; then
        [[ ",$extras," != *,cpu,* ]] || fail "cpu and cuda are two builds of vLLM; name one of them"
        constraints=constraints-cuda.txt
    fi
    uv="$(find_uv)"
    # Both builds of vLLM own the same files, so a change of extras starts from an empty folder.
    if [[ "$extras" != "$made_with" ]] || ! is_python .venv/bin/python '== (3, 12)'; then
        python="$(find_python)"
        say "making .venv with Python $python"
        "$uv" venv --quiet --clear --python "$python" .venv
    fi
    rm -f "$STAMP"
    say "installing e3mega with extras $extras (a first time downloads about 4 GB)"
    "$uv" pip install --python .venv/bin/python --constraint "$constraints" \
        --override overrides.txt --editable ".[$extras]"
    # What cannot be imported here shows when it is used, with its own message.
    .venv/bin/python tools/write_bytecode.py >/dev/null 2>&1 || true
    wanted "$extras" >"$STAMP"
    say "ready: .venv/bin/e3mega --help"
}

main "$@"
