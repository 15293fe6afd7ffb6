"""Who is answered next: so many at once, so many waiting in their order, and the rest refused at once."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from flamingo_app.errors import BusyError


class Desk:
    """A bounded queue in front of the model.

    Args:
        seats: answers given at once.
        most_waiting: requests that may wait, of everybody together.
        most_of_one: requests that one person may have here, waiting or being answered.
    """

    def __init__(self, *, seats: int = 4, most_waiting: int = 64, most_of_one: int = 32) -> None:
        self.seats, self.most_waiting, self.most_of_one = seats, most_waiting, most_of_one
        self._changed = threading.Condition()
        self._tickets: list[Ticket] = []

    def enter(self, owner: str | None) -> Ticket:
        """Take a place; the ticket is a context that gives it back.

        Args:
            owner: who asks; None where people cannot be told apart.

        Raises:
            BusyError: too many wait already, or too many of this owner's.
        """
        with self._changed:
            if len(self._tickets) >= self.seats + self.most_waiting:
                raise BusyError(expected="a free place", got=f"{len(self._tickets)} requests", remedy="try again later")
            if owner and sum(ticket.owner == owner for ticket in self._tickets) >= self.most_of_one:
                got = f"one more than {self.most_of_one} of yours at once"
                raise BusyError(expected="a few requests", got=got, remedy="wait for the others' answers")
            ticket = Ticket(self, owner)
            self._tickets.append(ticket)
            return ticket

    @property
    def num_waiting(self) -> int:
        """How many wait."""
        return max(0, len(self._tickets) - self.seats)

    def place(self, ticket: Ticket) -> int:
        """How many must leave before it is served; 0 is served."""
        return max(0, self._tickets.index(ticket) - self.seats + 1)

    def wait(self, ticket: Ticket, *, stop: threading.Event, seconds: float | None = None) -> int:
        """Wait for a seat, for so long at most, or until somebody sets `stop`; returns the place."""
        until = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while (place := self.place(ticket)) and not stop.is_set() and (until is None or time.monotonic() < until):
                self._changed.wait(timeout=0.2)
        return place

    def leave(self, ticket: Ticket) -> None:
        """Give a place back; twice is once."""
        with self._changed:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                self._changed.notify_all()


class Ticket:
    """A place at the desk."""

    def __init__(self, desk: Desk, owner: str | None) -> None:
        self.desk, self.owner = desk, owner

    @property
    def place(self) -> int:
        """How many must leave before this one is served; 0 is served."""
        return self.desk.place(self)

    def wait(self, *, stop: threading.Event, seconds: float | None = None) -> int:
        """See `Desk.wait`."""
        return self.desk.wait(self, stop=stop, seconds=seconds)

    def leave(self) -> None:
        """See `Desk.leave`."""
        self.desk.leave(self)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
