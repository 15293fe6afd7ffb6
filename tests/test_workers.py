"""No process that works ahead outlives the one it works for."""

import os
import subprocess
import sys

import pytest

KILLED_AT_BIRTH = """
import os, signal, time

def kill_the_parent():
    parent = os.getppid()
    os.kill(parent, signal.SIGKILL)
    while os.getppid() == parent:
        time.sleep(0.001)

{read}
os.register_at_fork(after_in_child=kill_the_parent)
list(read())
"""
READERS = {
    "pictures": """
from flamingo_app.fewshot.decoding import decoded
from flamingo_app.processing import FlamingoImageProcessor
read = lambda: decoded(["a.png"] * 100, FlamingoImageProcessor(), workers=2)
""",
    "batches": """
from training.loop import drawn
read = lambda: drawn(lambda step: {"step": step}, range(100), 2)
""",
}


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="needs a system that forks")
@pytest.mark.parametrize("what", READERS)
def test_a_worker_whose_parent_was_killed_at_its_birth_ends(what: str):
    # Whoever lives on holds these pipes open, so that waiting for their end is waiting for all.
    ran = subprocess.run(
        [sys.executable, "-c", KILLED_AT_BIRTH.format(read=READERS[what])],
        capture_output=True,
        timeout=120,
    )
    assert ran.returncode == -9, ran.stderr
