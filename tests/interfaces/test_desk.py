"""The queue: seats, places in their order, and refusals."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flamingo_app.errors import BusyError
from flamingo_app.interfaces.desk import Desk


def test_those_who_wait_are_served_in_their_order():
    desk, never = Desk(seats=2, most_waiting=3), threading.Event()
    tickets = [desk.enter(str(number)) for number in range(5)]
    assert [ticket.place for ticket in tickets] == [0, 0, 1, 2, 3]
    assert desk.num_waiting == 3
    with pytest.raises(BusyError, match="try again later"):
        desk.enter("one more")
    desk.leave(tickets[1])
    assert tickets[2].wait(stop=never) == 0
    assert tickets[3].wait(stop=never, seconds=0.01) == 1
    desk.leave(tickets[4])  # who gives up
    assert desk.num_waiting == 1
    desk.leave(tickets[4])  # twice is once
    assert desk.num_waiting == 1


def test_nobody_takes_all_places():
    desk = Desk(most_of_one=2)
    for _ in range(2):
        desk.enter("greedy")
    with pytest.raises(BusyError, match="2 of yours"):
        desk.enter("greedy")
    desk.enter("modest")


def test_a_set_stop_ends_the_waiting():
    desk, stop = Desk(seats=1), threading.Event()
    desk.enter("first")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(desk.enter("second").wait, stop=stop)
        stop.set()
        assert waiting.result(timeout=10) == 1


def test_never_more_at_once_than_seats():
    desk, together, most, lock = Desk(seats=3, most_of_one=100), [0], [0], threading.Lock()

    def work(number: int) -> None:
        with desk.enter("all") as ticket:
            ticket.wait(stop=threading.Event())
            with lock:
                together[0] += 1
                most[0] = max(most[0], together[0])
            with lock:
                together[0] -= 1

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(work, range(60)))
    assert 1 <= most[0] <= 3
    assert desk.num_waiting == 0
