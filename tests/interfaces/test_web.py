"""The chat page in a real browser, on a real server with a tiny random model. Screenshots are kept in .artifacts."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from flamingo_app.conversation.session import MAX_NEW_TOKENS
from tests.interfaces import slow_model

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / ".artifacts"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
SECONDS = 1000  # playwright counts in milliseconds
PATIENCE = 30 * SECONDS  # for machines that are busy with other things

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install one, or set CHROMIUM")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page served by `python app.py`."""
    folder = tmp_path_factory.mktemp("web")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_TEMP_DIR": str(folder / "uploads"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "app.py", "--model", str(slow_model.save(folder)), "--port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}", server, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
    assert "Traceback" not in (folder / "log").read_text()


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(log.read_text())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A new visitor's page; it must neither complain in the console nor ask anybody else for anything."""
    page, complaints = browser.new_page(viewport={"width": 1100, "height": 900}), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if is_elsewhere(request.url, address) else None)
    page.goto(address)
    expect(box(page)).to_be_visible()
    yield page
    page.close()
    assert complaints == []


def is_elsewhere(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (48, 48), "tomato").save(tmp_path / "tomato.png")
    return tmp_path / "tomato.png"


def box(page: Page):
    return page.get_by_role("textbox", name="Message")


def chips(page: Page):
    return page.locator("#composer .chip:not(.uploading)")


def user_bubbles(page: Page):
    return page.locator("#history [data-testid=user]")


def answers(page: Page):
    return page.locator("#history [data-testid=bot]")


def notice(page: Page):
    return page.locator("#notice [role=alert]")


def click(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


def attach(page: Page, file: Path) -> None:
    before = chips(page).count()
    page.get_by_label("Add pictures").set_input_files(file)
    expect(chips(page)).to_have_count(before + 1)


def ask(page: Page, words: str = "what is this ?") -> None:
    box(page).click()
    page.keyboard.type(words)
    page.keyboard.press("Enter")


def wait_for_the_end(page: Page) -> str:
    """The answer, once it is whole."""
    expect(answers(page)).not_to_have_count(0)
    expect(page.locator("#stop")).to_have_count(0, timeout=2 * PATIENCE)
    return answers(page).last.inner_text()


def test_pictures_between_words_get_a_streamed_answer(page: Page, picture: Path):
    box(page).click()
    page.keyboard.type("is this ")
    attach(page, picture)
    page.keyboard.type(" above ")
    click(page, "a pink page")
    expect(chips(page)).to_have_count(2)
    page.keyboard.type(" ?")
    page.screenshot(path=ARTIFACTS / "chat-writing.png")
    click(page, "Send")

    expect(page.locator("#stop")).to_be_visible()
    seen: set[str] = set()
    while page.locator("#stop").count():
        seen.update(answers(page).all_inner_texts())
    assert len(seen) > 2, "the answer did not come in pieces"
    assert len(answers(page).last.inner_text().split()) == MAX_NEW_TOKENS
    parts = [part.inner_text().strip() or "picture" for part in user_bubbles(page).all()]
    assert parts == ["is this", "picture", "above", "picture", "?"]
    expect(box(page)).to_be_empty()
    page.screenshot(path=ARTIFACTS / "chat-answer.png")


def test_a_dropped_and_a_pasted_picture_go_into_the_message(page: Page, picture: Path):
    data = base64.b64encode(picture.read_bytes()).decode()
    for event, make in [
        ("drop", "new DragEvent('drop', {dataTransfer: data, bubbles: true, clientX: at.x + 9, clientY: at.y + 9})"),
        ("paste", "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})"),
    ]:
        box(page).evaluate(
            f"""async (sheet, bytes) => {{
                const blob = await (await fetch("data:image/png;base64," + bytes)).blob();
                const data = new DataTransfer(), at = sheet.getBoundingClientRect();
                data.items.add(new File([blob], "{event}.png", {{ type: "image/png" }}));
                sheet.dispatchEvent({make});
            }}""",
            data,
        )
    expect(chips(page)).to_have_count(2)
    page.get_by_role("button", name="Remove picture").first.click()
    expect(chips(page)).to_have_count(1)


def test_stop_ends_the_answer_and_keeps_what_was_said(page: Page, picture: Path):
    attach(page, picture)
    ask(page)
    expect(answers(page)).to_have_count(1)
    click(page, "Stop")
    said = wait_for_the_end(page)
    assert 0 < len(said.split()) < MAX_NEW_TOKENS
    ask(page, "and now ?")
    expect(answers(page)).to_have_count(2)
    assert len(wait_for_the_end(page).split()) == MAX_NEW_TOKENS


def test_retry_undo_and_clear(page: Page, picture: Path):
    attach(page, picture)
    ask(page)
    first = wait_for_the_end(page)

    click(page, "Retry")
    expect(page.locator("#stop")).to_be_visible()
    assert wait_for_the_end(page) != first
    expect(answers(page)).to_have_count(1)

    click(page, "Undo")
    expect(answers(page)).to_have_count(0)
    expect(chips(page)).to_have_count(1)
    expect(box(page)).to_have_text(re.compile("what is this"))

    click(page, "Send")
    assert wait_for_the_end(page) == first
    click(page, "Clear")
    expect(user_bubbles(page)).to_have_count(0)
    expect(box(page)).to_be_empty()


def test_a_text_file_named_png_is_answered_with_one_line(page: Page, tmp_path: Path):
    (tmp_path / "notes.png").write_text("no picture at all")
    attach(page, tmp_path / "notes.png")
    ask(page)
    expect(notice(page)).to_contain_text("got 'notes.png'")
    assert "\n" not in notice(page).inner_text()
    assert str(tmp_path) not in notice(page).inner_text()
    expect(user_bubbles(page)).to_have_count(0)
    expect(chips(page)).to_have_count(1)  # the message is still there, to be mended
    page.screenshot(path=ARTIFACTS / "chat-bad-file.png")


def test_other_files_and_too_large_ones_are_refused_before_they_are_sent(page: Page, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no picture at all")
    page.get_by_label("Add pictures").set_input_files(tmp_path / "notes.txt")
    expect(page.locator("#composer [role=alert]")).to_contain_text("got notes.txt")
    (tmp_path / "large.png").write_bytes(bytes(21 * 2**20))
    page.get_by_label("Add pictures").set_input_files(tmp_path / "large.png")
    expect(page.locator("#composer [role=alert]")).to_contain_text("at most 20 MB; got large.png of 21 MB")
    expect(chips(page)).to_have_count(0)


@pytest.mark.parametrize(("words", "line"), [("what is <image> ?", "literal <image>"), ("", "empty message")])
def test_what_cannot_be_a_prompt_is_answered_with_one_line(page: Page, words: str, line: str):
    ask(page, words)
    expect(notice(page)).to_contain_text(line)
    expect(user_bubbles(page)).to_have_count(0)
    box(page).fill("a dog")  # and a mended message goes through
    click(page, "Send")
    expect(notice(page)).to_have_count(0)
    assert wait_for_the_end(page)


def test_words_are_shown_as_they_were_typed(page: Page):
    ask(page, "<b>a</b> & **dog** ${1+1} {{x}}")
    expect(user_bubbles(page)).to_have_text("<b>a</b> & **dog** ${1+1} {{x}}")
    wait_for_the_end(page)


def test_two_visitors_do_not_see_each_other(page: Page, browser: Browser, address: str):
    with browser.new_page() as other:
        other.goto(address)
        expect(box(other)).to_be_visible()
        ask(page, "a dog")
        ask(other, "a cat")
        wait_for_the_end(page)
        wait_for_the_end(other)
        assert user_bubbles(page).all_inner_texts() == ["a dog"]
        assert user_bubbles(other).all_inner_texts() == ["a cat"]
        click(other, "Retry")  # both answer from their own chat, not from the last one that spoke
        wait_for_the_end(other)
        assert user_bubbles(other).all_inner_texts() == ["a cat"]


def test_the_page_tells_what_the_model_is(page: Page):
    page.get_by_text("What this model is and knows").click()
    expect(page.locator("#card")).to_contain_text("It sees with")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(browser: Browser, address: str, scheme: Literal["light", "dark"]):
    with browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme) as phone:
        phone.goto(address)
        expect(phone.get_by_role("button", name="Clear")).to_be_visible()
        expect(phone.get_by_text("Loading")).to_have_count(0)
        phone.screenshot(path=ARTIFACTS / f"chat-phone-{scheme}.png")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        assert phone.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
