"""The ``napari-pathsam`` command: napari, started with torch loaded first.

On Windows, torch can fail to load its DLLs (an OSError) when Qt was loaded before it. A plugin is
always loaded after Qt; this launcher is the way round it.
"""

from __future__ import annotations

import sys


def main() -> int | None:
    """Load torch, then start napari with the arguments of the command line."""
    try:
        import torch  # noqa: F401
    except OSError as error:
        sys.stderr.write(
            f"torch could not be loaded ({error}). On Windows this often means that the Microsoft "
            "Visual C++ runtime is missing: install the latest 'vc_redist.x64.exe' from Microsoft, "
            "then start napari-pathsam again.\n"
        )
        return 1

    from napari.__main__ import main as napari_main

    napari_main()
    return None
