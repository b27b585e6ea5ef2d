#!/bin/sh
# Install napari-pathsam into .venv and run its main job on the packaged samples.
# Usage: sh scripts/demo.sh [--no-run]
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

say "Installing napari-pathsam into $(pwd)/.venv
  download: about 3.5 GB the first time (PyTorch with GPU support is most of it); 7 GB on disk
  time:     about 2 minutes on a fast line, 10 and more on a slow one"
make_environment .venv
if uv_works .venv; then
    .venv/bin/uv pip install --python .venv/bin/python --reinstall-package napari-pathsam ".[all]" ||
        stop "The installation failed; the reason stands above. Running this again resumes it."
else
    # pip would fetch torch a second time to build sam2 in isolation: install torch first.
    pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
    { pip install torch torchvision setuptools wheel &&
        pip install --no-build-isolation sam2 &&
        pip install ".[all]"; } ||
        stop "The installation failed; the reason stands above. Running this again resumes it."
fi
.venv/bin/python -c 'import torchvision, timm' ||
    stop "torch and torchvision do not match. Delete the folder .venv and run this command again."

[ "${1:-}" = "--no-run" ] && exit 0
.venv/bin/pathsam demo --out demo
say "
Done. Look at the pictures in $(pwd)/demo
Start the viewer:  .venv/bin/napari-pathsam     then Plugins > PathSAM: Annotate"
