"""Threads that give answers: they stay, children make their own, and none holds up the end of the process."""

import os
import subprocess
import sys
import threading

from flamingo_app.model.streaming import _Threads  # pyright: ignore[reportPrivateUsage]


def test_the_same_thread_works_again_and_another_where_it_is_busy() -> None:
    threads, used = _Threads(), list[int]()
    release = threading.Event()

    def wait() -> None:
        used.append(threading.get_ident())
        release.wait(10)

    for _ in range(3):
        assert threads.start(lambda: used.append(threading.get_ident())).wait(10)
    busy = threads.start(wait)
    assert threads.start(lambda: used.append(threading.get_ident())).wait(10)
    release.set()
    assert busy.wait(10)
    assert len(set(used[:3])) == 1
    assert len(set(used)) == 2


def test_a_child_makes_threads_of_its_own() -> None:
    threads = _Threads()
    assert threads.start(lambda: None).wait(10)
    child = os.fork()
    if child == 0:
        os._exit(0 if threads.start(lambda: None).wait(10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_work_that_goes_on_does_not_hold_up_the_end() -> None:
    code = "import threading; from flamingo_app.model.streaming import _THREADS; _THREADS.start(threading.Event().wait)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
