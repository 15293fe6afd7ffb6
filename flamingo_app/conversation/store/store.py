"""Conversations of their owners. Every change is on disk when its call returns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

from sqlalchemy import Connection, delete, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from flamingo_app.conversation.messages import Example, Part, Picture
from flamingo_app.conversation.store.database import open_database
from flamingo_app.conversation.store.pictures import Pictures
from flamingo_app.conversation.store.records import (
    Saved,
    SavedTurn,
    Status,
    Summary,
    read_examples,
    read_parts,
    title_of,
    write_examples,
    write_parts,
)
from flamingo_app.conversation.store.tables import conversations, example_sets, shown, turns
from flamingo_app.errors import ConversationError, StoreError, WentOnError

MOST_LISTED = 500


class Store:
    """Conversations in SQL, their pictures beside them; nobody sees what is another owner's.

    Args:
        database_url: "sqlite:///path", "postgresql://..."; its tables are brought up to date.
        pictures_url: a folder or another URL of fsspec.

    Raises:
        StoreError: the database cannot be had.
        ConversationError: from the methods: the owner has no such conversation; `WentOnError`: it went on elsewhere.
    """

    def __init__(self, database_url: str, pictures_url: str) -> None:
        self.engine = open_database(database_url)
        self.pictures = Pictures(pictures_url)

    def create(self, owner: str, *, title: str = "", examples: Sequence[Example] = (), id: str | None = None) -> str:
        """Begin a conversation; returns its id."""
        identity = id or uuid4().hex
        try:
            with self.engine.begin() as connection:
                _begin(connection, identity, owner, title, examples)
        except IntegrityError:
            raise _unknown(identity) from None  # another owner's: not even that is told
        return identity

    def find(self, owner: str, *, search: str = "") -> list[Summary]:
        """An owner's conversations, the latest first; those whose title or words hold the search's."""
        found = select(conversations).where(conversations.c.owner == owner)
        if words := search.strip().casefold():
            inside = select(turns.c.conversation).where(turns.c.words.contains(words, autoescape=True))
            title = conversations.c.words.contains(words, autoescape=True)
            found = found.where(or_(title, conversations.c.id.in_(inside)))
        with self.engine.begin() as connection:
            rows = connection.execute(found.order_by(conversations.c.updated.desc()).limit(MOST_LISTED)).mappings()
            return [Summary(id=row["id"], title=row["title"], updated=row["updated"]) for row in rows]

    def load(self, owner: str, identity: str) -> Saved:
        """A whole conversation."""
        with self.engine.begin() as connection:
            row = _own(connection, owner, identity)
            of_it = select(turns).where(turns.c.conversation == identity).order_by(turns.c.number)
            kept = [
                SavedTurn(said=read_parts(turn["said"], self.pictures), answer=turn["answer"], status=turn["status"])
                for turn in connection.execute(of_it).mappings()
            ]
        examples = read_examples(row["examples"], self.pictures)
        return Saved(
            id=identity,
            title=row["title"],
            turns=tuple(kept),
            examples=examples,
            remembers=row["remembers"],
            forgotten=row["forgotten"],
            pool=row["pool"],
            num_similar=row["num_similar"],
        )

    def ask(self, owner: str, identity: str, number: int, said: Sequence[Part], *, replaces: bool = True) -> None:
        """Keep what the user said as a turn's beginning.

        Args:
            number: how many turns stand before it.
            replaces: turns from that number on go; without it there must be none.
        """
        try:
            with self.engine.begin() as connection:
                row = _own(connection, owner, identity)
                before = turns.c.number < number if replaces else true()
                kept = select(func.count()).where(turns.c.conversation == identity, before)
                if connection.execute(kept).scalar_one() != number:
                    raise _went_on(identity)
                _cut(connection, identity, number)
                turn = SavedTurn(said=tuple(cast("Sequence[str | Picture]", said)))
                connection.execute(insert(turns).values(_row(identity, number, turn)))
                _show(connection, identity, [part for part in said if isinstance(part, Picture)])
                _touch(connection, identity, **_titled(row["title"] or title_of(said)))
        except IntegrityError:
            raise _went_on(identity) from None

    def answer(
        self,
        owner: str,
        identity: str,
        number: int,
        answer: str,
        status: Status,
        *,
        said: Sequence[Part] | None = None,
    ) -> None:
        """Keep the answer of a turn that was asked.

        Args:
            said: what it answers; where the turn is another one by now, the answer is not kept.
        """
        with self.engine.begin() as connection:
            _own(connection, owner, identity)
            this = (turns.c.conversation == identity, turns.c.number == number)
            turn = connection.execute(select(turns).where(*this)).mappings().first()
            if turn is None or (said is not None and turn["said"] != write_parts(said)):
                raise _went_on(identity)
            answer = answer.replace("\0", "")  # which PostgreSQL cannot keep, and a model may say
            values = {"answer": answer, "status": status, "words": f"{turn['words']} {answer.casefold()}"}
            connection.execute(update(turns).where(*this).values(**values))
            _touch(connection, identity)

    def cut(self, owner: str, identity: str, number: int) -> None:
        """Take back the turns from a number on; what they showed stays until the conversation goes."""
        with self.engine.begin() as connection:
            _own(connection, owner, identity)
            _cut(connection, identity, number)
            _touch(connection, identity)

    def rename(self, owner: str, identity: str, title: str) -> None:
        """Give a conversation another title."""
        with self.engine.begin() as connection:
            _own(connection, owner, identity)
            connection.execute(update(conversations).where(conversations.c.id == identity).values(**_titled(title)))

    def teach(self, owner: str, identity: str, examples: Sequence[Example]) -> None:
        """Choose what is shown before a conversation."""
        with self.engine.begin() as connection:
            _own(connection, owner, identity)
            _show(connection, identity, [example.picture for example in examples])
            _touch(connection, identity, examples=write_examples(examples))

    def choose(self, owner: str, identity: str, *, pool: str, num_similar: int) -> None:
        """Choose the set of which the most similar examples are shown, and how many; "" goes back to fixed ones."""
        with self.engine.begin() as connection:
            _own(connection, owner, identity)
            _touch(connection, identity, pool=pool, num_similar=num_similar)

    def remember(self, owner: str, identity: str, *, remembers: bool, forgotten: int) -> None:
        """Choose whether the memory is read, and how many of the first turns are forgotten."""
        with self.engine.begin() as connection:
            _own(connection, owner, identity)
            _touch(connection, identity, remembers=remembers, forgotten=forgotten)

    def delete(self, owner: str, identity: str) -> None:
        """Forget a conversation; its pictures go once nothing shows them, see `sweep`."""
        with self.engine.begin() as connection:
            _own(connection, owner, identity)
            connection.execute(delete(conversations).where(conversations.c.id == identity))
        self.sweep()

    def branch(self, owner: str, identity: str, num_turns: int) -> str:
        """Another conversation that begins with the first turns of this one; returns its id."""
        saved = self.load(owner, identity)
        title = f"{saved.title} (branch)"
        branch = self.add(owner, title=title, kept=saved.turns[:num_turns], examples=saved.examples)
        self.remember(owner, branch, remembers=saved.remembers, forgotten=min(saved.forgotten, num_turns))
        self.choose(owner, branch, pool=saved.pool, num_similar=saved.num_similar)
        return branch

    def add(self, owner: str, *, title: str, kept: Sequence[SavedTurn], examples: Sequence[Example] = ()) -> str:
        """Keep a conversation that was had before, all of it or nothing; returns its id."""
        identity = uuid4().hex
        with self.engine.begin() as connection:
            _begin(connection, identity, owner, title, examples)
            if kept:
                connection.execute(insert(turns), [_row(identity, number, turn) for number, turn in enumerate(kept)])
            _show(connection, identity, [part for turn in kept for part in turn.said if isinstance(part, Picture)])
        return identity

    def example_sets(self, owner: str) -> dict[str, tuple[Example, ...]]:
        """An owner's named examples."""
        with self.engine.begin() as connection:
            rows = connection.execute(select(example_sets).where(example_sets.c.owner == owner)).mappings()
            return {row["name"]: read_examples(row["examples"], self.pictures) for row in rows}

    def save_example_set(self, owner: str, name: str, examples: Sequence[Example]) -> None:
        """Keep examples under a name; none take the name away."""
        with self.engine.begin() as connection:
            connection.execute(delete(example_sets).where(example_sets.c.owner == owner, example_sets.c.name == name))
            if examples:
                row = {"owner": owner, "name": name, "examples": write_examples(examples)}
                connection.execute(insert(example_sets).values(**row))

    def picture(self, owner: str, identity: str, name: str) -> Picture:
        """A picture that a conversation shows, or once showed."""
        with self.engine.begin() as connection:
            _own(connection, owner, identity)
            found = select(shown).where(shown.c.conversation == identity, shown.c.sha256 == name)
            if connection.execute(found).first() is None:
                raise _unknown(identity)
        return self.pictures.picture(name)

    def sweep(self) -> None:
        """Delete the files of pictures that nothing shows any more."""
        with self.engine.begin() as connection:
            names = set(connection.execute(select(shown.c.sha256)).scalars())
            for examples in connection.execute(select(example_sets.c.examples)).scalars():
                names.update(example["picture"] for example in examples)
        self.pictures.sweep(names)

    def check(self) -> None:
        """Raise `StoreError` where the database does not answer."""
        try:
            with self.engine.begin() as connection:
                connection.execute(select(1))
        except SQLAlchemyError:
            raise StoreError(expected="a database that answers", got="none", remedy="start it again") from None

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()


def _begin(connection: Connection, identity: str, owner: str, title: str, examples: Sequence[Example]) -> None:
    now = time.time()
    row = {"id": identity, "owner": owner, "examples": write_examples(examples), "created": now, "updated": now}
    connection.execute(insert(conversations).values(**row, **_titled(title)))
    _show(connection, identity, [example.picture for example in examples])


def _titled(title: str) -> dict[str, str]:
    return {"title": title.strip(), "words": title.strip().casefold()}


def _row(identity: str, number: int, turn: SavedTurn) -> dict[str, Any]:
    words = " ".join(message.text for message in turn.messages).casefold()
    row = {"said": write_parts(turn.said), "answer": turn.answer, "status": turn.status, "words": words}
    return {"conversation": identity, "number": number} | row


def _own(connection: Connection, owner: str, identity: str) -> Any:
    found = select(conversations).where(conversations.c.id == identity, conversations.c.owner == owner)
    row = connection.execute(found.with_for_update()).mappings().first()
    if row is None:
        raise _unknown(identity)
    return row


def _cut(connection: Connection, identity: str, number: int) -> None:
    connection.execute(delete(turns).where(turns.c.conversation == identity, turns.c.number >= number))
    further = (conversations.c.id == identity, conversations.c.forgotten > number)
    connection.execute(update(conversations).where(*further).values(forgotten=number))


def _show(connection: Connection, identity: str, pictures: Sequence[Picture]) -> None:
    known = set(connection.execute(select(shown.c.sha256).where(shown.c.conversation == identity)).scalars())
    for name in {picture.name for picture in pictures} - known:
        connection.execute(insert(shown).values(conversation=identity, sha256=name))


def _touch(connection: Connection, identity: str, **values: Any) -> None:
    now = {"updated": time.time()}
    connection.execute(update(conversations).where(conversations.c.id == identity).values(**now, **values))


def _unknown(identity: str) -> ConversationError:
    return ConversationError(
        expected="a conversation of yours", got=f"{identity[:64]!r}", remedy="choose one of the list"
    )


def _went_on(identity: str) -> WentOnError:
    return WentOnError(
        expected="the conversation as you see it", got="one that went on elsewhere", remedy="open it again"
    )
