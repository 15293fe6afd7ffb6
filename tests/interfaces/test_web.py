"""The chat page in a real browser, on a real server with a tiny random model. Screenshots are kept in .artifacts."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from flamingo_app.conversation.session import MAX_NEW_TOKENS
from flamingo_app.model.backbones import STARTER
from tests.interfaces import slow_model
from tests.interfaces.serving import Served, served

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / ".artifacts"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
SECONDS = 1000  # playwright counts in milliseconds
PATIENCE = 30 * SECONDS  # for machines that are busy with other things

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install one, or set CHROMIUM")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A process of its own: gradio does not see through the hooks that check types in this one."""
    folder = tmp_path_factory.mktemp("web")
    with served(slow_model.save(folder), folder / "data") as running:
        yield running


@pytest.fixture
def address(server: Served) -> str:
    return server.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
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
    shown = user_bubbles(page).locator("> *").all()
    parts = [part.inner_text().strip() or "picture" for part in shown]
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


def test_a_camera_takes_a_picture(page: Page):
    box(page).click()
    page.keyboard.type("is this ")
    click(page, "Camera")
    take = page.get_by_role("button", name="Take picture")
    expect(take).to_be_focused()  # as soon as the camera sees
    page.keyboard.press("Enter")
    expect(chips(page)).to_have_count(1)
    expect(chips(page).locator("img")).not_to_have_js_property("naturalWidth", 0)
    expect(take).to_be_hidden()
    page.keyboard.type(" a dog ?")
    page.keyboard.press("Enter")
    expect(user_bubbles(page).locator("img")).not_to_have_js_property("naturalWidth", 0)
    expect(user_bubbles(page)).to_have_text(re.compile("is this.*a dog"))
    click(page, "Stop")
    wait_for_the_end(page)
    click(page, "Camera")
    expect(take).to_be_focused()
    page.keyboard.press("Escape")
    expect(take).to_be_hidden()
    expect(box(page)).to_be_focused()


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


def shelf(page: Page):
    return page.locator("#shelf li .name")


def test_retry_undo_and_a_new_chat(page: Page, picture: Path):
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
    click(page, "New chat")
    expect(user_bubbles(page)).to_have_count(0)
    expect(box(page)).to_be_empty()


def test_a_message_is_edited_and_sent_again(page: Page, picture: Path):
    attach(page, picture)
    ask(page, "a dog")
    wait_for_the_end(page)
    ask(page, "a cat")
    expect(answers(page)).to_have_count(2)
    wait_for_the_end(page)
    page.get_by_role("button", name="Edit", exact=True).first.click()
    expect(box(page)).to_have_text(re.compile("a dog"))
    expect(notice(page)).to_contain_text("1 later turns go then")
    box(page).click()
    page.keyboard.press("Control+End")
    page.keyboard.type(" and a bird")
    click(page, "Send")
    expect(user_bubbles(page)).to_have_count(1)
    wait_for_the_end(page)
    expect(user_bubbles(page)).to_have_text(re.compile("a dog and a bird"))
    expect(user_bubbles(page).locator("img")).to_have_count(1)


def test_conversations_are_found_renamed_branched_and_deleted(page: Page, tmp_path: Path):
    for words in ("one red dog", "two green bird"):
        ask(page, words)
        wait_for_the_end(page)
        click(page, "New chat")
        expect(user_bubbles(page)).to_have_count(0)
    expect(shelf(page)).to_have_text(["two green bird", "one red dog"])
    page.get_by_role("searchbox").fill("RED dog")
    expect(shelf(page)).to_have_text(["one red dog"])
    page.get_by_role("searchbox").fill("")
    expect(shelf(page)).to_have_count(2)

    page.get_by_role("button", name="one red dog", exact=True).click()
    expect(user_bubbles(page)).to_have_text(["one red dog"])
    click(page, "Rename one red dog")
    page.get_by_role("textbox", name="New title").fill("Rex")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Rex", exact=True)).to_be_visible()
    click(page, "Branch")
    expect(page.get_by_role("button", name="Rex (branch)", exact=True)).to_have_attribute("aria-current", "true")
    expect(user_bubbles(page)).to_have_text(["one red dog"])

    click(page, "Export Rex")
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    download.value.save_as(tmp_path / "rex.json")
    click(page, "Close")
    for title in ("Rex", "Rex (branch)", "two green bird"):
        click(page, f"Delete {title}")
        click(page, f"Really delete {title}")
        expect(page.get_by_role("button", name=title, exact=True)).to_have_count(0)
    expect(user_bubbles(page)).to_have_count(0)
    page.get_by_label("Import a conversation").set_input_files(tmp_path / "rex.json")
    expect(user_bubbles(page)).to_have_text(["one red dog"])
    expect(shelf(page)).to_have_text(["Rex"])


def open_examples(page: Page) -> None:
    page.get_by_text("Examples shown first").click()
    expect(page.locator("#shots .pool option")).not_to_have_count(0)  # it has its content


def test_examples_are_taught_reordered_and_saved(page: Page, picture: Path):
    open_examples(page)
    page.get_by_label("Add example pictures").set_input_files([picture, picture])
    words = page.get_by_label(re.compile("Words of example"))
    expect(words).to_have_count(2)
    words.first.fill("a dog")
    words.last.fill("a cat")
    page.get_by_role("button", name="Move up").last.click()
    page.get_by_label("Name of a set").fill("pets")
    click(page, "Save set")
    expect(page.locator("#shots .cost").last).to_have_text(re.compile(r"\d+ tokens"))
    assert [words.nth(place).input_value() for place in range(2)] == ["a cat", "a dog"]
    ask(page)
    wait_for_the_end(page)
    expect(page.locator("#budget")).to_contain_text("2 pictures")
    click(page, "New chat")
    expect(words).to_have_count(0)
    page.get_by_label("Saved sets").select_option("pets")
    expect(words).to_have_count(2)
    page.screenshot(path=ARTIFACTS / "chat-examples.png")


def test_examples_most_like_each_picture_are_chosen_from_a_folder(page: Page, tmp_path: Path):
    colours = ("tomato", "navy", "gold")
    folder = tmp_path / "pets"
    folder.mkdir()
    for colour in colours:
        Image.new("RGB", (48, 48), colour).save(folder / f"{colour}.png")
    rows = [f'{{"file_name": "{colour}.png", "text": "a {colour} dog"}}' for colour in colours]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    open_examples(page)
    page.get_by_label("How many similar ones").fill("1")
    page.get_by_label("Add a folder of examples").set_input_files(folder)
    expect(page.get_by_label("Choose similar ones from")).to_have_value("pets")
    words = page.get_by_label(re.compile("Words of example"))
    expect(words).to_have_count(0)
    for colour in ("gold", "navy"):
        attach(page, folder / f"{colour}.png")
        ask(page)
        click(page, "Stop")
        wait_for_the_end(page)
        expect(words).to_have_count(1)
        expect(words).to_have_value(f"a {colour} dog")
    page.reload()
    open_examples(page)
    expect(page.get_by_label("Choose similar ones from")).to_have_value("pets")
    expect(page.get_by_label("How many similar ones")).to_have_value("1")
    page.get_by_label("Choose similar ones from").select_option("no set")
    (folder / "metadata.jsonl").write_text("no list")
    page.get_by_label("Add a folder of examples").set_input_files(folder)
    expect(page.locator("#shots [role=alert]")).to_contain_text("got no list in metadata.jsonl")


def test_the_memory_is_shown_switched_off_and_forgotten(page: Page, picture: Path):
    attach(page, picture)
    for number, words in enumerate(("a dog", "a cat", "a bird"), start=1):
        ask(page, words)
        expect(answers(page)).to_have_count(number)
        wait_for_the_end(page)
    page.get_by_text("What it remembers").click()
    remembered, reads = page.locator("#memory li"), page.get_by_label("Read what has left the window")
    expect(remembered).to_have_count(2)
    expect(page.locator("#memory .hint")).to_contain_text("as the memory tells them")
    expect(page.locator("#budget")).to_contain_text("it has them in its memory")
    page.get_by_role("button", name="Look", exact=True).last.click()
    meters = page.locator("#memory li meter")
    expect(meters).to_have_count(2)
    assert sum(float(meter.get_attribute("value") or 0) for meter in meters.all()) == pytest.approx(1, abs=0.01)
    page.screenshot(path=ARTIFACTS / "chat-memory.png")

    reads.uncheck()
    expect(page.locator("#budget")).to_contain_text("the model does not see them any more")
    page.reload()
    page.get_by_text("What it remembers").click()
    expect(remembered).to_have_count(2)
    expect(reads).not_to_be_checked()
    reads.check()
    expect(page.locator("#budget")).to_contain_text("it has them in its memory")
    click(page, "Forget it")
    expect(remembered).to_have_count(0)
    expect(page.locator("#memory .hint")).to_contain_text("The first 2 turns are forgotten")


def test_a_conversation_deleted_or_left_while_it_is_answered(page: Page):
    ask(page, "a dog")
    expect(answers(page)).to_have_count(1)
    click(page, "Delete a dog")
    click(page, "Really delete a dog")
    expect(page.locator("#stop")).to_have_count(0)
    expect(user_bubbles(page)).to_have_count(0)
    expect(shelf(page)).to_have_count(0)
    expect(notice(page)).to_have_count(0)

    ask(page, "a cat")
    expect(answers(page)).to_have_count(1)
    click(page, "New chat")  # and the other goes on being answered
    expect(user_bubbles(page)).to_have_count(0)
    expect(page.locator("#stop")).to_have_count(0)
    expect(user_bubbles(page)).to_have_count(0)
    page.get_by_role("button", name="a cat", exact=True).click()
    assert len(wait_for_the_end(page).split()) == MAX_NEW_TOKENS


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element of this name has the focus."""
    told = "e => [e.ariaLabel, e.textContent, e.title].map((told) => (told ?? '').trim())"
    for _ in range(80):
        if name in page.locator(":focus").evaluate_all(f"all => all.flatMap({told})"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{name} is not reached by Tab")


def test_all_is_done_without_a_mouse(page: Page):
    tab_to(page, "a pink page")
    page.keyboard.press("Enter")
    expect(chips(page)).to_have_count(1)
    tab_to(page, "Message")
    page.keyboard.type("a dog")
    page.keyboard.press("Enter")
    expect(answers(page)).to_have_count(1)
    tab_to(page, "Stop")
    page.keyboard.press("Enter")
    wait_for_the_end(page)
    tab_to(page, "Look")
    page.keyboard.press("Enter")
    expect(page.locator("#looking .line button")).not_to_have_count(0)
    tab_to(page, "Edit")
    page.keyboard.press("Enter")
    expect(box(page)).to_have_text(re.compile("a dog"))
    tab_to(page, "Delete a dog")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Really delete a dog")).to_be_focused()
    page.keyboard.press("Enter")
    expect(shelf(page)).to_have_count(0)


def test_an_example_conversation_is_asked_message_by_message(page: Page):
    talk = page.get_by_role("group", name="Example conversations").get_by_role("button", name="Two dogs")
    page.screenshot(path=ARTIFACTS / "chat-empty.png")
    talk.click()
    expect(user_bubbles(page)).to_have_count(1)
    expect(talk).to_be_hidden()
    box(page).click()
    page.keyboard.type("and a bird")  # meanwhile
    expect(answers(page)).to_have_count(2)
    expect(box(page)).to_have_text("and a bird")
    wait_for_the_end(page)
    expect(user_bubbles(page)).to_have_text(["a dog ?", "and two dog ?"])
    expect(user_bubbles(page).first.locator("img")).to_have_js_property("naturalWidth", 64)
    assert all(len(said.split()) == MAX_NEW_TOKENS for said in answers(page).all_inner_texts())
    page.reload()
    expect(answers(page)).to_have_count(2)

    click(page, "New chat")
    talk.click()
    expect(answers(page)).to_have_count(1)
    click(page, "Stop")  # and nothing is asked after it
    assert len(wait_for_the_end(page).split()) < MAX_NEW_TOKENS
    expect(user_bubbles(page)).to_have_text(["a dog ?"])
    expect(shelf(page)).to_have_text(["a dog ?", "a dog ?"])


def test_two_tabs_on_one_conversation_lose_nothing(browser: Browser, address: str):
    with browser.new_context() as context:
        one, other = context.new_page(), context.new_page()
        one.goto(address)
        ask(one, "a dog")
        wait_for_the_end(one)
        other.goto(one.url)
        expect(answers(other)).to_have_count(1)
        ask(one, "a cat")
        expect(answers(one)).to_have_count(2)
        ask(other, "a bird")  # while the first is being answered
        wait_for_the_end(one)
        expect(answers(other)).to_have_count(3)
        wait_for_the_end(other)
        for page in (one, other):
            page.reload()
            expect(user_bubbles(page)).to_have_text(["a dog", "a cat", "a bird"])
            expect(answers(page)).to_have_count(3)
            assert all(len(said.split()) == MAX_NEW_TOKENS for said in answers(page).all_inner_texts())


def test_each_word_shows_what_it_looked_at(page: Page, picture: Path):
    attach(page, picture)
    ask(page)
    said = wait_for_the_end(page)
    click(page, "Look")  # and the panel opens
    seen = page.locator("#looking .line button")
    expect(seen).to_have_count(len(said.split()))
    seen.last.click()
    expect(seen.last).to_have_attribute("aria-pressed", "true")
    marked = "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].some(Boolean)"
    assert page.locator("#looking canvas").first.evaluate(marked)
    page.screenshot(path=ARTIFACTS / "chat-looking.png")


def close_gates(page: Page) -> None:
    """Turn the dial down by its keys, as often as it takes: gradio sets a part that was just unfolded once more."""
    dial = page.locator("#gates input[type=range]")
    for _ in range(20):
        dial.press("Home")
        page.wait_for_timeout(500)
        if dial.input_value() == "0":
            break
    expect(dial).to_have_value("0")


def test_closed_gates_see_no_picture(page: Page, picture: Path):
    attach(page, picture)
    ask(page, "a dog")
    open_gates = wait_for_the_end(page)
    page.get_by_text("What it looked at, and its gates").click()
    close_gates(page)
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(box(page)).to_have_text(re.compile("a dog"))
    click(page, "Send")
    expect(page.locator("#stop")).to_be_visible()
    assert wait_for_the_end(page) != open_gates


def test_everything_is_back_after_a_reload_and_a_restart(browser: Browser, server: Served, picture: Path):
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.address)
    expect(box(page)).to_be_visible()
    attach(page, picture)
    ask(page, "a dog")
    wait_for_the_end(page)
    before = page.locator("#history").inner_text()
    page.reload()
    expect(answers(page)).to_have_count(1)
    assert page.locator("#history").inner_text() == before

    server.kill()
    server.start()
    page.reload()
    expect(answers(page)).to_have_count(1)
    assert page.locator("#history").inner_text() == before
    expect(shelf(page)).to_have_text(["a dog"])
    picture_shown = user_bubbles(page).locator("img")
    expect(picture_shown).to_have_js_property("naturalWidth", 48)
    of_the_picture = picture_shown.get_attribute("src")
    ask(page, "and now ?")
    expect(answers(page)).to_have_count(2)
    wait_for_the_end(page)

    ask(page, "once more ?")
    expect(answers(page)).to_have_count(3)
    server.kill()  # in the middle of an answer
    server.start()
    page.reload()
    expect(page.locator("#history .status").last).to_contain_text("it was interrupted")
    expect(answers(page)).to_have_count(2)
    click(page, "Retry")
    expect(answers(page)).to_have_count(3)
    wait_for_the_end(page)

    stranger = browser.new_page()  # who knows the address of a conversation and of its picture
    stranger.goto(page.url)
    expect(box(stranger)).to_be_visible()
    expect(user_bubbles(stranger)).to_have_count(0)
    assert stranger.request.get(f"{server.address}/{of_the_picture}").status == 404
    stranger.close()
    context.close()


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
        expect(phone.get_by_role("button", name="Undo")).to_be_visible()
        expect(phone.get_by_text("Loading")).to_have_count(0)
        phone.screenshot(path=ARTIFACTS / f"chat-phone-{scheme}.png")
        click(phone, "Two dogs")  # nothing lies over it
        expect(answers(phone)).to_have_count(1)
        click(phone, "Stop")
        wait_for_the_end(phone)
        click(phone, "Toggle Sidebar")
        click(phone, "New chat")
        expect(user_bubbles(phone)).to_have_count(0)
        box(phone).click()
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        assert phone.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")


@pytest.mark.skipif(not (STARTER / "model.safetensors").is_file(), reason="the starter is not built")
def test_the_pictures_of_the_readme(browser: Browser, tmp_path: Path):
    """What a newcomer does first, on the starter; `make pictures` puts what is seen into docs."""
    with served(Path("starter"), tmp_path) as server:
        with browser.new_page(viewport={"width": 1100, "height": 1540}) as page:
            page.goto(server.address)
            talks = page.get_by_role("group", name="Example conversations").get_by_role("button")
            expect(talks).not_to_have_count(0)
            talks.first.click()
            # All three answers take less than a second: the button that stops them may have come and gone unseen.
            expect(page.get_by_role("button", name="Copy", exact=True)).to_have_count(3)
            wait_for_the_end(page)
            page.get_by_role("button", name="Look", exact=True).first.click()
            expect(page.locator("#looking .line button")).not_to_have_count(0)
            page.mouse.move(0, 0)
            page.screenshot(path=ARTIFACTS / "docs" / "chat.png")
        phone_size: ViewportSize = {"width": 390, "height": 800}
        with browser.new_page(viewport=phone_size, color_scheme="dark", device_scale_factor=2) as phone:
            phone.goto(server.address)
            expect(phone.get_by_role("button", name="Undo")).to_be_visible()
            expect(phone.get_by_text("Loading")).to_have_count(0)
            phone.screenshot(path=ARTIFACTS / "docs" / "phone.png")
