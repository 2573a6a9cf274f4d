#!/usr/bin/env bash
# Makes ./.venv with kvproxy and its development tools, unless it already fits this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."

# Someone else's environment must not decide which Python, or which packages, end up in ours.
if [ -n "${VIRTUAL_ENV:-}" ]; then
    PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -vxF "$VIRTUAL_ENV/bin" | paste -sd: -)
fi
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH

stamp=.venv/.stamp
# Scripts in .venv/bin hold absolute paths, so a moved checkout needs a new environment too.
wanted="$PWD $(cksum < pyproject.toml)"

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

find_python() {
    local name
    for name in python3.{19..11} python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "setup: no Python >= 3.11 on PATH; install one (Debian: apt-get install python3)" >&2
    return 1
}

python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "setup: $python cannot make virtual environments: venv or ensurepip is missing" >&2
    echo "setup: on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
fi

if ! { [ -f "$stamp" ] && [ "$(cut -d' ' -f1 "$stamp")" = "$PWD" ] && .venv/bin/pip --version; } \
    >/dev/null 2>&1; then
    echo "setup: making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi
echo "setup: installing kvproxy and its development tools (a minute or two, only once)"
.venv/bin/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
printf '%s' "$wanted" > "$stamp"
echo "setup: done"
