#!/bin/sh
# Install everything the tests need and run them: all on one Python, the quick ones on a newer one.
# Usage: sh scripts/test.sh [arguments of pytest]
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

say "Testing napari-pathsam in $(pwd)/.tox
  download: about 3.5 GB the first time (PyTorch with GPU support is most of it); up to 20 GB on disk
  time:     20 to 40 minutes on two cores, and the download"

# What Qt needs to draw on a virtual screen; a desktop has most of it.
debian_packages="xvfb xauth libgl1 libegl1 libgl1-mesa-dri libxkbcommon-x11-0 libxcb-cursor0
    libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0
    libxcb-xfixes0 libxcb-xkb1 libdbus-1-3 libfontconfig1 libglib2.0-0"
installed() { # newer Debians call some of them …t64
    dpkg-query -W -f '${Status}\n' "$1" "${1}t64" 2>/dev/null | grep -q '^install ok installed'
}
if command -v apt-get >/dev/null 2>&1; then
    missing=""
    for package in $debian_packages; do installed "$package" || missing="$missing $package"; done
    if [ -n "$missing" ] && [ "$(id -u)" = 0 ]; then
        say "Installing the display packages:$missing"
        { apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
        } >&2 || stop "apt-get could not install:$missing"
    elif [ -n "$missing" ]; then
        stop "The tests open real windows on a virtual screen, and these packages are missing:
   $missing
Install them and run this command again:
    sudo apt-get install --no-install-recommends$missing"
    fi
elif [ "$(uname)" = Linux ] && ! command -v Xvfb >/dev/null 2>&1; then
    stop "The tests open real windows on a virtual screen: install Xvfb and the xcb libraries Qt 6
needs (on Debian:" $debian_packages"), then run this command again."
fi

make_environment .tox/bootstrap
bin=.tox/bootstrap/bin
if uv_works .tox/bootstrap; then
    $bin/python -m pip install --quiet --disable-pip-version-check tox tox-uv
else
    $bin/python -m pip install --quiet --disable-pip-version-check tox
fi || stop "tox could not be installed; the reason stands above."

# All tests on the oldest Python present, the quick ones on the newest.
present=""
for minor in 11 12 13 14; do
    works "python3.$minor" && present="$present py3$minor"
done
[ -n "$present" ] || present=" $($bin/python -c 'import sys; print("py3%d" % sys.version_info[1])')"
set -- -- "$@"
first=$(echo $present | cut -d' ' -f1)
last=$(echo $present | tr ' ' '\n' | grep -v py314 | tail -n 1)
environments="$first"
[ -z "$last" ] || [ "$last" = "$first" ] || environments="$environments,$last-quick"
say "Python found:$present; running tox -e $environments,lint"
exec $bin/tox run -e "$environments,lint" "$@"
