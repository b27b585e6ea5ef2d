"""``python -m napari_pathsam`` is the ``pathsam`` command."""

from napari_pathsam.cli import main

if __name__ == "__main__":
    main()
