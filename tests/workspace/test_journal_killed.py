"""A process that is killed loses at most the action it was in."""

import json
import subprocess
import sys
import textwrap
import time
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from napari_pathsam.workspace import ArraySource, journal
from napari_pathsam.workspace.history import Step
from napari_pathsam.workspace.replay import replaying

from .conftest import check_rules, discs_image, files  # noqa: TID252

CHILD = """
    import sys
    from pathlib import Path
    import numpy as np
    sys.path[:0] = {paths!r}
    from tests_workspace.conftest import GrowModel, discs_image, random_action
    from napari_pathsam.workspace import ArraySource, Workspace

    workspace = Workspace(model_loader=lambda *a: GrowModel(), journal_dir=Path({folder!r}))
    workspace.open_image(ArraySource(discs_image()))
    done = Path({folder!r}, "states.bin").open("ab", buffering=0)
    def note():
        labels = workspace.instances.astype("<i4").tobytes() + workspace.class_map.tobytes()
        done.write(hash_of(labels))
    from hashlib import sha256
    hash_of = lambda data: sha256(data).digest()
    workspace.history_changed.connect(note)
    rng = np.random.default_rng({seed})
    print("ready", flush=True)
    while True:
        random_action(workspace, rng)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a Unix thing")
def test_a_killed_process_loses_at_most_the_last_action(opened, folder, tmp_path):
    (tmp_path / "tests_workspace").symlink_to(Path(__file__).parent)
    source = ArraySource(discs_image())
    rng = np.random.default_rng(0)
    for seed in range(4):
        code = textwrap.dedent(CHILD).format(paths=[str(tmp_path)], folder=str(folder), seed=seed)
        folder.mkdir(exist_ok=True)
        (folder / "states.bin").unlink(missing_ok=True)
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        try:
            assert child.stdout.readline() == b"ready\n"
            notes, enough = folder / "states.bin", 32 * int(rng.integers(4, 40))
            while notes.stat().st_size < enough:
                assert child.poll() is None
                time.sleep(0.002)
            time.sleep(float(rng.uniform(0, 0.02)))
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
        states = (folder / "states.bin").read_bytes()
        seen = [states[i : i + 32] for i in range(0, len(states) - 31, 32)]
        workspace, heard = opened(source)
        assert len(seen) >= 4
        # The child notes an action after it is saved: one more than noted may have been.
        assert workspace.restorable.n_actions - len(seen) in (0, 1)
        workspace.restore()
        assert not heard.failed
        labels = workspace.instances.astype("<i4").tobytes() + workspace.class_map.tobytes()
        restored = sha256(labels).digest()
        assert _replay_to(folder, len(seen)) == seen[-1]
        assert restored == seen[-1] or _lines(folder) == len(seen) + 1
        check_rules(workspace)
        workspace.close_image()
        for path in files(folder):
            path.unlink()


def _lines(folder):
    (path,) = files(folder)
    return sum(1 for _ in journal._good_lines(path)) - 1


def _replay_to(folder, n):
    """The digest of the labels after the first n actions of the journal."""
    (path,) = files(folder)
    values = [json.loads(line) for line, _ in journal._good_lines(path)]
    steps = ((v["what"], Step.from_json(v["step"])) for v in islice(values, 1, n + 1))
    *_, found = replaying(values[0], steps, (100, 120))
    labels = found.annotations
    data = labels.instances.astype("<i4").tobytes() + labels.class_map.tobytes()
    return sha256(data).digest()
