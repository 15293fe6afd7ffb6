"""What the page's buttons do to a conversation. Each yields views: what changed on the page."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, cast

import gradio as gr

from flamingo_app.conversation import Example, Message, Picture, Settings
from flamingo_app.conversation.store import Saved, SavedTurn
from flamingo_app.conversation.store.portable import from_file
from flamingo_app.errors import ConversationError, FlamingoError, PromptError
from flamingo_app.interfaces.desk import Ticket
from flamingo_app.interfaces.service import Service, status_of
from flamingo_app.interfaces.similar import similar_examples
from flamingo_app.interfaces.users import Users
from flamingo_app.interfaces.web import views
from flamingo_app.interfaces.web.drafts import Draft, read_draft, read_picture, show_draft, uploaded
from flamingo_app.interfaces.web.looking import look_at
from flamingo_app.interfaces.web.remembering import num_left, remembering
from flamingo_app.interfaces.web.talks import Talks
from flamingo_app.interfaces.web.views import View, line
from flamingo_app.interfaces.web.visitors import owner_of

logger = logging.getLogger(__name__)

MOST_POOLED = 256
"""Examples in a set that similar ones are chosen from."""

MOST_SIMILAR = 16
"""How many of them are chosen."""

RETRY_TEMPERATURE = 0.7
"""A first answer is the likeliest one; asking again draws another, or it would be the same."""


class OpenPage:
    """One open page: which conversation it shows, where the next message goes, and the way to stop an answer.

    Attributes:
        conversation: None for one that has not begun.
        editing: the turn that the next message replaces; None for a new one.
        search: what the list of conversations is narrowed to.
    """

    def __init__(self) -> None:
        self.conversation: str | None = None
        self.editing: int | None = None
        self.search = ""
        self.stop = threading.Event()

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenPage:
        """Gradio copies the first value of a state for every page that opens: each starts with one of its own."""
        return OpenPage()

    def turn_to(self, conversation: str | None) -> None:
        """Show another conversation."""
        self.conversation, self.editing = conversation, None


@dataclass(frozen=True, kw_only=True)
class Acting:
    """A service, and what is done with it when somebody clicks.

    Args:
        talks: the example conversations.
    """

    service: Service
    users: Users
    talks: Talks = field(default_factory=Talks)

    def open(self, page: OpenPage, request: gr.Request) -> View:
        """Show the page: the conversation that its address names, or a new one."""
        owner = self._owner(request)
        page.turn_to(str(request.query_params.get("c") or "") or None)
        try:
            return self._all(page, owner)
        except ConversationError:
            page.turn_to(None)
            return self._all(page, owner)

    def send(self, page: OpenPage, payload: Any, gates: float | int, request: gr.Request) -> Iterator[View]:
        """Answer a new or changed message; what cannot be answered stays in the box, with a line that says why."""

        def ask() -> Iterator[View]:
            owner = self._owner(request)
            yield from self._say(page, owner, self._read(page, owner, payload), float(gates))

        yield from _to_the_end(ask())

    def play(self, page: OpenPage, payload: Any, gates: float | int, request: gr.Request) -> Iterator[View]:
        """Say the messages of an example conversation one by one, until somebody stops it or goes elsewhere."""

        def ask() -> Iterator[View]:
            owner = self._owner(request)
            number = payload.get("talk") if isinstance(payload, dict) else None
            asked = self.talks.drafts(number, self.service.store.pictures.put) if isinstance(number, int) else []
            if asked:
                page.conversation = page.conversation or self.service.store.create(owner)
            identity = page.conversation
            for said in asked:
                for view in self._say(page, owner, said, float(gates)):
                    yield view._replace(draft=views.KEEP)  # which somebody may be writing
                if page.stop.is_set() or page.conversation != identity:
                    return

        yield from _to_the_end(ask())

    def retry(
        self, page: OpenPage, temperature: float | int, gates: float | int, request: gr.Request
    ) -> Iterator[View]:
        """Answer the last message again, in other words."""

        def ask() -> Iterator[View]:
            page.stop.set()
            owner = self._owner(request)
            saved = self._saved(page, owner)
            if saved.turns:
                settings = Settings(temperature=float(temperature) or RETRY_TEMPERATURE, gate_scale=float(gates))
                yield from self._answer(page, owner, saved, len(saved.turns) - 1, saved.turns[-1].said, settings)

        yield from _to_the_end(ask())

    def undo(self, page: OpenPage, request: gr.Request) -> View:
        """Take the last turn back; what the user wrote returns to the box, to be changed."""
        page.stop.set()  # an answer that is being given is taken back with its turn
        owner = self._owner(request)
        saved = self._saved(page, owner)
        if not saved.turns or page.conversation is None:
            return View()
        self.service.store.cut(owner, page.conversation, len(saved.turns) - 1)
        page.editing = None
        return self._all(page, owner)._replace(draft=self._draft(page, saved.turns[-1].said))

    def on_turn(self, page: OpenPage, payload: Any, gates: float | int, request: gr.Request) -> View:
        """What the buttons beside a message do: edit it, branch off, look."""
        owner = self._owner(request)
        saved = self._saved(page, owner)
        match payload:
            case {"do": "edit", "turn": int(number)} if 0 <= number < len(saved.turns):
                page.editing = number
                left = len(saved.turns) - number - 1
                words = "The message is changed when you send it" + (f"; {left} later turns go then." if left else ".")
                return View(
                    history=self._bubbles(page, saved),
                    draft=self._draft(page, saved.turns[number].said),
                    notice=line(words),
                )
            case {"do": "branch", "turn": int(number)} if page.conversation and 0 <= number < len(saved.turns):
                page.turn_to(self.service.store.branch(owner, page.conversation, number + 1))
                return self._all(page, owner)
            case {"do": "look", "turn": int(number)} if 0 <= number < len(saved.turns):
                before = [message for turn in saved.turns[: number + 1] for message in turn.messages]
                answer = saved.turns[number].answer or ""
                seen, shares = look_at(
                    self.service,
                    before[:-1],
                    answer,
                    saved.examples,
                    gate_scale=float(gates),
                    forgotten=saved.forgotten,
                    address=lambda picture: views.address(page.conversation, picture),
                )
                notice = "" if seen["pictures"] else line("There is no picture in what the model read.")
                return View(
                    history=self._bubbles(page, saved),
                    looking=seen,
                    memory=remembering(self.service, saved, shares or None),
                    notice=notice,
                    look_panel=gr.update(open=True),
                )
            case _:
                return View(history=self._bubbles(page, saved))

    def on_shelf(self, page: OpenPage, payload: Any, request: gr.Request) -> View:
        """What is done with conversations: open, begin, search, rename, delete, import."""
        owner, store = self._owner(request), self.service.store
        match payload:
            case {"do": "open", "id": str(identity)}:
                page.turn_to(identity)
            case {"do": "new"}:
                page.turn_to(None)
            case {"do": "search", "words": str(words)}:
                page.search = words
                return View(shelf=self._shelf(page, owner))
            case {"do": "rename", "id": str(identity), "title": str(title)}:
                store.rename(owner, identity, title[:200])
                return View(shelf=self._shelf(page, owner))
            case {"do": "delete", "id": str(identity)}:
                store.delete(owner, identity)
                if identity == page.conversation:
                    page.stop.set()
                    page.turn_to(None)
            case {"do": "import", "path": str(path)}:
                title, turns, examples = from_file(uploaded(path).read_bytes(), store.pictures)
                page.turn_to(store.add(owner, title=title, kept=turns, examples=examples))
            case _:
                return View()
        return self._all(page, owner)

    def on_memory(self, page: OpenPage, payload: Any, request: gr.Request) -> View:
        """What is done with the memory: read it or not, forget what is in it."""
        owner = self._owner(request)
        saved = self._saved(page, owner)
        if page.conversation is None:
            return View(memory=remembering(self.service, saved))
        match payload:
            case {"do": "read", "on": bool(on)}:
                self.service.store.remember(owner, page.conversation, remembers=on, forgotten=saved.forgotten)
            case {"do": "forget"}:
                left = num_left(self.service, saved)
                self.service.store.remember(owner, page.conversation, remembers=saved.remembers, forgotten=left)
            case _:
                return View()
        saved = self._saved(page, owner)
        return View(memory=remembering(self.service, saved), budget=views.budget(self.service, saved))

    def unfold(self, page: OpenPage, request: gr.Request) -> View:
        """What a panel shows when it is opened: gradio loses what streams to one that was closed."""
        owner = self._owner(request)
        saved = self._saved(page, owner)
        shots = self._shots(saved, owner) if saved.pool else views.KEEP  # else somebody may be writing them
        return View(memory=remembering(self.service, saved), shots=shots)

    def on_shots(self, page: OpenPage, payload: Any, request: gr.Request) -> View:
        """What is done with examples: use them, save them as a set, take a saved set, or similar ones of a set."""
        owner, store, most = self._owner(request), self.service.store, self.service.limits.pictures
        chosen, pool, num_similar = None, "", 0
        match payload:
            case {"do": "use", "shots": list(given)}:
                chosen = self._examples(page, owner, given[:most])
            case {"do": "save", "name": str(name), "shots": list(given)} if name.strip():
                chosen = self._examples(page, owner, given[:most])
                store.save_example_set(owner, name.strip()[:100], chosen)
            case {"do": "set", "name": str(name)}:
                chosen = store.example_sets(owner).get(name, ())
            case {"do": "similar", "name": str(name), "number": int(number)}:
                pool, num_similar = name[:100], max(1, min(number, MOST_SIMILAR))
            case {"do": "folder", "name": str(name), "number": int(number), "shots": [_, *_] as given}:
                pool, num_similar = name.strip()[:100] or "folder", max(1, min(number, MOST_SIMILAR))
                store.save_example_set(owner, pool, self._examples(page, owner, given[:MOST_POOLED]))
            case _:
                raise PromptError(expected="a name for the set", got="none", remedy="write one")
        if page.conversation is None:
            page.turn_to(store.create(owner))
        identity = cast(str, page.conversation)
        if chosen is not None:
            store.teach(owner, identity, chosen)
        store.choose(owner, identity, pool=pool, num_similar=num_similar)
        return self._all(page, owner)._replace(draft=views.KEEP)

    def _with_similar(self, page: OpenPage, owner: str, saved: Saved, said: Draft) -> Saved:
        """A conversation with the examples that look most like the message's last picture, where it chooses so."""
        shown = [part for part in said if isinstance(part, Picture)]
        pool = self.service.store.example_sets(owner).get(saved.pool, ()) if saved.pool and shown else ()
        if not pool or page.conversation is None:
            return saved
        chosen = similar_examples(self.service, pool, shown[-1], saved.num_similar)
        self.service.store.teach(owner, page.conversation, chosen)
        return replace(saved, examples=chosen)

    def _say(self, page: OpenPage, owner: str, said: Draft, gate_scale: float) -> Iterator[View]:
        """Answer a message at its place."""
        saved = self._saved(page, owner)
        number = len(saved.turns) if page.editing is None else page.editing
        saved = self._with_similar(page, owner, saved, said)
        yield from self._answer(page, owner, saved, number, said, Settings(gate_scale=gate_scale))

    def _answer(
        self, page: OpenPage, owner: str, saved: Saved, number: int, said: Draft, settings: Settings
    ) -> Iterator[View]:
        service, store = self.service, self.service.store
        page.stop = stop = threading.Event()
        before = saved.turns[:number]
        messages = [message for turn in before for message in turn.messages]
        settings = replace(settings, memory=saved.remembers, forgotten=saved.forgotten)
        asked = Message(role="user", parts=said)
        answer = service.reply([*messages, asked], examples=saved.examples, settings=settings, stop=stop)
        with service.desk.enter(owner) as ticket:
            identity = page.conversation or store.create(owner)
            store.ask(owner, identity, number, said, replaces=number < len(saved.turns))
            page.conversation, page.editing = identity, None
            turn = SavedTurn(said=said)
            yield View(
                history=views.bubbles(identity, (*before, turn), live=True),
                notice="",
                draft=[],
                stop=gr.update(visible=True),
                shelf=self._shelf(page, owner),
                looking={},
            )
            yield from _wait(ticket, stop)
            words, failed = "", False
            try:
                for piece in service.hear(answer, ticket, stop=stop):
                    words += piece
                    turn = SavedTurn(said=said, answer=words.strip())
                    if page.conversation == identity:  # and not another one by now
                        yield View(history=views.bubbles(identity, (*before, turn), live=True))
            except Exception:
                failed = True
                raise
            finally:
                # Kept before the page hears that it is whole; one that nobody waited for is kept as far as it came.
                if not failed:
                    # Who stopped it, and then took the turn back or deleted it all, knows.
                    with suppress(*([ConversationError] if stop.is_set() else [])):
                        store.answer(owner, identity, number, words.strip(), status_of(answer), said=said)
        seen = self._all(page, owner)._replace(draft=views.KEEP, notice=views.KEEP)
        yield seen if saved.pool else seen._replace(shots=views.KEEP)  # which somebody may be writing

    def _all(self, page: OpenPage, owner: str) -> View:
        saved = self._saved(page, owner)
        return View(
            history=self._bubbles(page, saved),
            notice="",
            draft=[],
            shelf=self._shelf(page, owner),
            shots=self._shots(saved, owner),
            budget=views.budget(self.service, saved),
            looking={},
            memory=remembering(self.service, saved),
        )

    def _saved(self, page: OpenPage, owner: str) -> Saved:
        if page.conversation is None:
            return Saved(id="", title="")
        return self.service.store.load(owner, page.conversation)

    def _bubbles(self, page: OpenPage, saved: Saved) -> list[dict[str, Any]]:
        return views.bubbles(page.conversation, saved.turns)

    def _shelf(self, page: OpenPage, owner: str) -> dict[str, Any]:
        found = self.service.store.find(owner, search=page.search)
        items = [{"id": each.id, "title": each.title or "New chat"} for each in found]
        return {"items": items, "current": page.conversation}

    def _shots(self, saved: Saved, owner: str) -> dict[str, Any]:
        return views.shots(self.service, saved, sorted(self.service.store.example_sets(owner)))

    def _draft(self, page: OpenPage, said: Draft) -> list[dict[str, Any]]:
        return show_draft(said, lambda picture: views.address(page.conversation, picture))

    def _read(self, page: OpenPage, owner: str, payload: Any) -> Draft:
        put, most = self.service.store.pictures.put, self.service.limits.pictures
        return read_draft(payload, put=put, kept=self._kept(page, owner), most=most)

    def _kept(self, page: OpenPage, owner: str) -> Callable[[str], Any]:
        return lambda name: self.service.store.picture(owner, page.conversation or "", name)

    def _examples(self, page: OpenPage, owner: str, given: Sequence[Any]) -> tuple[Example, ...]:
        chosen: list[Example] = []
        for each in given:
            match each:
                case {"path": str(path), "text": str(text)}:
                    put = self.service.store.pictures.put
                    picture = read_picture(path, put=put, kept=self._kept(page, owner))
                    chosen.append(Example(picture=picture, text=text))
                    chosen[-1].check()
                case _:
                    raise PromptError(expected="a picture with words", got="something else", remedy="add it again")
        return tuple(chosen)

    def _owner(self, request: gr.Request) -> str:
        return owner_of(dict(request.headers), self.users)


def told(act: Callable[..., View]) -> Callable[..., View]:
    """An act whose failure becomes a line on the page."""

    @wraps(act)
    def safe(*given: Any) -> View:
        try:
            return act(*given)
        except FlamingoError as error:
            return View(notice=line(str(error)))

    return safe


def _wait(ticket: Ticket, stop: threading.Event) -> Iterator[View]:
    """While others are answered, say how many."""
    while (place := ticket.wait(stop=stop, seconds=1.0)) and not stop.is_set():
        yield View(notice=line(f"{place} before you. Your answer comes in its turn."))
    if not stop.is_set():
        yield View(notice="")


def _to_the_end(seen: Iterator[View]) -> Iterator[View]:
    """The views of an answer, then the end of it; every failure becomes a line on the page."""
    notice = views.KEEP
    try:
        yield from seen
    except FlamingoError as error:
        notice = line(str(error))
    except Exception:  # the page must not be left waiting, whatever happened
        logger.exception("an answer failed")
        notice = line("The answer failed through a fault of ours; the server's log says more. Retry, or undo.")
    yield View(notice=notice, stop=gr.update(visible=False))
