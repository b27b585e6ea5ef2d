# Shared by demo.sh and test.sh (POSIX sh): the right Python, its own environment, readable failures.

say() { printf '%s\n' "$*" >&2; }
stop() { printf '\n%s\n' "$*" >&2; exit 1; }

# pyenv hides every interpreter but the active ones behind commands that fail: activate them all.
if [ -z "${PYENV_VERSION:-}" ] && command -v pyenv >/dev/null 2>&1; then
    all=$(pyenv versions --bare 2>/dev/null | grep -E '^3\.1[1-9]\.[0-9]+$' | sort -V | tr '\n' ':')
    [ -z "$all" ] || export PYENV_VERSION="${all%:}"
fi
# An interpreter is found or it is not; nothing fetches one behind the user's back.
export UV_PYTHON_DOWNLOADS=never
# The optional CUDA kernel of sam2 is not used here and takes minutes to compile.
export SAM2_BUILD_CUDA=0

works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for python in "${PYTHON:-python3}" python3.11 python3.12 python3.13 python3.14; do
        if works "$python"; then printf '%s' "$python"; return; fi
    done
    stop "Python 3.11 or newer is needed and none was found. On Debian or Ubuntu:
    sudo apt-get install python3 python3-venv
Elsewhere: https://www.python.org/downloads/ . Then run this command again."
}

make_environment() { # DIRECTORY
    [ -x "$1/bin/python" ] && works "$1/bin/python" && return
    python=$(find_python) || exit 1
    if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        stop "This Python cannot make a virtual environment: python3-venv is missing. Install it with
    sudo apt-get install python3-venv
and run this command again."
    fi
    "$python" -m venv --clear "$1" || stop "The virtual environment $1 could not be made (see above)."
}

# uv installs in a minute what takes pip five, but it reads no pip.conf: use it where it works.
uv_works() { # DIRECTORY
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check uv >/dev/null 2>&1 &&
        "$1/bin/uv" pip install --quiet --dry-run --python "$1/bin/python" typing_extensions \
            >/dev/null 2>&1
}
