"""Every format gives the same documents: pictures and words where they belong, faults named."""

from __future__ import annotations

import base64
import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import Document, field_weights, spell
from data.formats import Reading, open_source
from data.formats.interleaved import Mmc4
from data.formats.lines import JsonLines
from flamingo_app.errors import DataError
from flamingo_app.images import open_picture
from flamingo_app.prompt import Mark
from tests.training.runs import picture

TEXTS = ("a red car", "two dogs, one cat", 'a "quoted" hat')


def png(number: int) -> bytes:
    file = io.BytesIO()
    picture(number).save(file, "PNG")
    return file.getvalue()


def base64_png(number: int) -> str:
    return base64.b64encode(png(number)).decode()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def pictures(folder: Path) -> None:
    for number in range(len(TEXTS)):
        (folder / f"{number}.png").write_bytes(png(number))


def make(kind: str, folder: Path) -> str:
    """The three pairs of picture and text in one format."""
    pictures(folder)
    match kind:
        case "imagefolder":
            records = ({"file_name": f"{n}.png", "text": text} for n, text in enumerate(TEXTS))
            write_lines(folder / "metadata.jsonl", *records)
            return str(folder)
        case "csv":
            with (folder / "pairs.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerows([("text", "file_name"), *((text, f"{n}.png") for n, text in enumerate(TEXTS))])
            return str(folder / "pairs.csv")
        case "coco":
            images = [{"id": 10 + n, "file_name": f"{n}.png"} for n in range(3)]
            notes = [{"image_id": 10 + n, "caption": text} for n, text in enumerate(TEXTS)]
            (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
            return str(folder / "captions.json")
        case "webdataset":
            members = [(f"a/{n}.png", png(n)) for n in range(2)] + [(f"a/{n}.txt", TEXTS[n].encode()) for n in range(2)]
            write_tar(folder / "0.tar", dict(members))
            write_tar(folder / "1.tar", {"2.jpg": png(2), "2.json": json.dumps({"caption": TEXTS[2]}).encode()})
            return str(folder / "*.tar")
        case "obelics":
            records = ({"images": [f"{n}.png", None], "texts": [None, text]} for n, text in enumerate(TEXTS))
            return str(write_lines(folder / "pages.jsonl", *records))
        case _:
            records = (
                {
                    "text_list": [text],
                    "image_info": [{"image_base64": base64_png(n), "matched_text_index": 0, "matched_sim": 0.3}],
                }
                for n, text in enumerate(TEXTS)
            )
            if kind == "mmc4":
                return str(write_lines(folder / "docs.jsonl", *records))
            members = {f"{n}.json": json.dumps(record).encode() for n, record in enumerate(records)}
            return str(write_tar(folder / "docs.tar", members))


PAIRS = ("imagefolder", "csv", "coco", "webdataset", "obelics", "mmc4", "mmc4 shards")


@pytest.mark.parametrize("kind", PAIRS)
def test_a_pair_is_the_same_from_every_format(kind: str, tmp_path: Path) -> None:
    source = open_source(make(kind, tmp_path), Reading())
    assert len(source) == len(TEXTS)
    for number in (2, 0, 1):  # in any order
        sample = source[number]
        assert sample.pieces == ((Mark.IMAGE, 0.0), (f" {TEXTS[number]}", 1.0), (Mark.END_OF_CHUNK, 1.0))
        (shown,) = sample.pictures
        assert (shown if isinstance(shown, bytes) else Path(str(shown)).read_bytes()) == png(number)
        assert source.name(number) in sample.name


def test_a_record_is_one_however_its_path_begins(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"./b/1.png": png(0), "b/1.txt": b"words", "./2.png": png(1), "2.txt": b"more"})
    source = open_source(str(tmp_path / "0.tar"), Reading())
    assert [source[number].pieces[1][0] for number in range(len(source))] == [" words", " more"]


def test_mmc4_pictures_go_where_the_similarities_are_greatest_one_to_one(tmp_path: Path) -> None:
    document = {
        "text_list": ["zero", "one", "two"],
        "image_info": [{"image_base64": base64_png(n), "matched_text_index": 0, "matched_sim": 0.9} for n in range(3)],
        # Alone, both first pictures would take sentence 1; together 0 -> 1 and 1 -> 2 are the most. 2 -> 0 is too weak.
        "similarity_matrix": [[0.1, 0.5, 0.2], [0.1, 0.6, 0.55], [0.2, 0.1, 0.1]],
    }
    source = Mmc4(JsonLines(write_lines(tmp_path / "docs.jsonl", document)))
    assert [piece for piece, _ in source[0].pieces] == [
        " zero", Mark.IMAGE, " one", Mark.END_OF_CHUNK, Mark.IMAGE, " two", Mark.END_OF_CHUNK
    ]  # fmt: skip
    assert source[0].pictures == (png(0), png(1))
    assert source[0].pieces[0] == (" zero", 0.0)
    assert not Mmc4(source.records, similarity=0.95)[0].pictures  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"images": ["a.png", null], "texts": ["both", null]}', "an OBELICS document"),
        ('{"images": ["a.png"], "texts": []}', "an OBELICS document"),
        ('{"images": ["base64:!!"], "texts": [null]}', "base64"),
        ("not json", "a JSON object"),
        ('{"images": 3, "texts": []}', "'images'"),
        ('{"images": ["a.png", null], "texts": [null, "<image>"]}', "plain words"),
        ('{"images": [7, null], "texts": [null, "words"]}', "an OBELICS document"),
        ('{"images": ["a.png", null], "texts": [null, "\\ud800"]}', "words in UTF-8"),
    ],
)
def test_a_bad_record_is_named(content: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "pages.jsonl").write_text(f'{{"images": [null], "texts": ["fine"]}}\n\n{content}\n')
    source = open_source(str(tmp_path / "pages.jsonl"), Reading())
    with pytest.raises(DataError, match=what) as caught:
        source[1]
    assert "pages.jsonl line 3" in str(caught.value)


@pytest.mark.parametrize("kind", PAIRS)
def test_a_bad_row_anywhere_is_one_bad_row(kind: str, tmp_path: Path) -> None:
    """The first too, by which formats are told apart."""
    path = Path(make(kind, tmp_path))
    match kind:
        case "imagefolder" | "obelics" | "mmc4":
            lines = path / "metadata.jsonl" if kind == "imagefolder" else path
            lines.write_bytes(b"\xff damaged\r\n" + lines.read_bytes())
        case "csv":
            header, rows = path.read_bytes().split(b"\r\n", 1)
            path.write_bytes(b"\xef\xbb\xbf" + header + b"\r\nb\xe4r,0.png\r\n" + rows)
        case "coco":
            whole = json.loads(path.read_text())
            path.write_text(
                json.dumps(whole | {"annotations": [{"image_id": 99, "caption": "a"}, *whole["annotations"]]})
            )
        case "webdataset":
            write_tar(tmp_path / "-.tar", {"a.png": b"", "b.txt": b"no picture"})
        case _:
            write_tar(tmp_path / "-.tar", {"a.json": b"{"})
            path = path.parent / "*.tar"
    source = open_source(str(path), Reading())
    bad = len(source) - len(TEXTS)
    assert bad >= 1
    for number in range(bad):
        with pytest.raises(DataError):
            source[number]
    assert [source[bad + number].pieces[1][0] for number in range(len(TEXTS))] == [f" {text}" for text in TEXTS]


@pytest.mark.parametrize(
    "change", [{"matched_text_index": -1}, {"matched_text_index": 9}, {"matched_sim": "x"}, "image"]
)
def test_mmc4_pictures_that_belong_nowhere_are_a_bad_row(change: Any, tmp_path: Path) -> None:
    image = {"image_base64": base64_png(0), "matched_text_index": 0, "matched_sim": 0.9}
    document = {"text_list": ["one"], "image_info": [image | change if isinstance(change, dict) else change]}
    source = Mmc4(JsonLines(write_lines(tmp_path / "docs.jsonl", document)))
    with pytest.raises(DataError, match=r"docs\.jsonl line 1"):
        source[0]


def test_names_in_any_script_and_folder_are_found(tmp_path: Path) -> None:
    name = "mein bär/子 #1 🐶.png"
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(png(1))
    (tmp_path / "pairs.csv").write_bytes(f"file_name,text\r\n{name},ein bär 🐻\r\n".encode("utf-8-sig"))
    sample = open_source(str(tmp_path / "pairs.csv"), Reading())[0]
    assert sample.pieces[1][0] == " ein bär 🐻"
    assert open_picture(*sample.pictures).size == (24, 20)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "half.tar").write_bytes(b"no tar")
    (tmp_path / "other.csv").write_text("a,b\n")
    (tmp_path / "long.csv").write_text(f"file_name,text\n0.png,{'x' * 200_000}\n")
    (tmp_path / "boxes.json").write_text('{"images": [], "annotations": [{"image_id": 1, "bbox": []}]}')
    whole = write_tar(tmp_path / "damaged.tar", {f"{number}.txt": b"words" for number in range(4)}).read_bytes()
    (tmp_path / "damaged.tar").write_bytes(whole[:1024] + b"?" * 512 + whole[1536:])
    names = ("empty.jsonl", "half.tar", "other.csv", "long.csv", "boxes.json", "damaged.tar", "missing", "missing.csv")
    for name in (*names, "picture-book:none"):
        with pytest.raises(DataError):
            open_source(str(name if ":" in name else tmp_path / name), Reading())


def test_our_episodes_are_the_same_whenever_they_are_read() -> None:
    one, two = (open_source("picture-book:9", Reading()) for _ in range(2))
    for number in range(9):
        assert one[number].pieces == two[number].pieces
        assert [p.tobytes() for p in one[number].pictures] == [p.tobytes() for p in two[number].pictures]  # type: ignore[union-attr]


IMAGE, END, PAD = "I", "E", "P"


def field_labels(ids: list[str]) -> list[bool]:
    """As open_flamingo's training loop masks the labels of an interleaved batch, token by token."""
    labels = [token not in (PAD, IMAGE) for token in ids]
    for position, token in enumerate(ids):
        if token == IMAGE:
            break
        labels[position] = False
    for end in [position for position, token in enumerate(ids) if token == END]:
        position = end + 1
        while position < len(ids) and ids[position] != IMAGE:
            labels[position] = False
            position += 1
    return labels


@given(st.lists(st.sampled_from([IMAGE, END, "word"]), max_size=30))
def test_labels_are_masked_as_the_field_does(ids: list[str]) -> None:
    pieces = [{IMAGE: Mark.IMAGE, END: Mark.END_OF_CHUNK}.get(token, token) for token in ids]
    assert [weight > 0 for _, weight in field_weights(pieces)] == field_labels(ids)


@given(st.lists(st.one_of(st.sampled_from([b"1", b"2"]), st.sampled_from(["words", " ", "more"])), max_size=12))
def test_a_document_keeps_its_order_and_ends_every_chunk_that_speaks(parts: list[Any]) -> None:
    sample = spell(Document(name="x", parts=tuple(parts)))
    told = [part for part in parts if isinstance(part, bytes) or part.strip()]
    order = [Mark.IMAGE if isinstance(part, bytes) else f" {part.strip()}" for part in told]
    assert [piece for piece, _ in sample.pieces if piece is not Mark.END_OF_CHUNK] == order
    assert sample.pictures == tuple(part for part in told if isinstance(part, bytes))
    pieces = [piece for piece, _ in sample.pieces]
    for position, piece in enumerate(pieces):
        if piece is Mark.END_OF_CHUNK:
            assert isinstance(pieces[position - 1], str)
            assert pieces[position + 1 : position + 2] in ([], [Mark.IMAGE])
    if sample.pictures and isinstance(told[-1], str):
        assert pieces[-1] is Mark.END_OF_CHUNK
