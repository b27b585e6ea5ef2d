"""What runners share."""

import gc
import threading

import pytest

from napari_pathsam.workspace.runner import no_collecting


def test_the_collector_waits_for_the_last_thread():
    """One that ends does not set it on while another one works."""
    entered, may_end = threading.Event(), threading.Event()

    def other():
        with no_collecting():
            entered.set()
            may_end.wait(20)

    thread = threading.Thread(target=other)
    with no_collecting():
        thread.start()
        assert entered.wait(20)
    assert not gc.isenabled()
    may_end.set()
    thread.join()
    assert gc.isenabled()
    with pytest.raises(KeyError), no_collecting():
        raise KeyError
    assert gc.isenabled()
