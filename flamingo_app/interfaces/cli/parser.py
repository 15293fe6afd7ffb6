"""What can be typed after `flamingo`."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

EXIT_STATUS = "exit status: 0 all fine, 1 some pictures failed, 2 bad usage or nothing could be done"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(epilog=EXIT_STATUS, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"flamingo: expected a command as in {self.prog} --help; got one with {message}; correct it\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `command` in its result says which."""
    parser = Parser(prog="flamingo", description="Caption pictures and ask about them, after a few examples or none.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    _add_caption(commands)
    _add_classify(commands)
    _add_report(commands)
    _add_ask(commands)
    _add_info(commands)
    _add_import(commands)
    _add_serve(commands)
    return parser


def _add_caption(commands: Any) -> None:
    command = commands.add_parser("caption", help="a caption for each picture", description="Caption each picture.")
    _add_job(command, ["jsonl", "coco", "csv"])
    command.add_argument("--prompt", metavar="TEXT", help="words that the caption goes on from")
    command.add_argument(
        "--max-new-tokens",
        metavar="N",
        type=_count,
        default=32,
        help="where a caption that does not end is cut (default: %(default)s)",
    )


def _add_classify(commands: Any) -> None:
    about = "Label each picture with one of the shots' texts."
    command = commands.add_parser("classify", help="a label for each picture", description=about)
    _add_job(command, ["jsonl", "csv"])
    command.add_argument("--prompt", metavar="TEXT", help="words between picture and label")
    command.add_argument(
        "--label", metavar="TEXT", action="append", default=[], help="one of the labels (default: the shots' texts)"
    )
    command.add_argument(
        "--calibrate", action="store_true", help="take away what a label gets for pictures that show nothing"
    )
    command.add_argument(
        "--abstain",
        metavar="P",
        type=_probability,
        default=0.0,
        help="no label where the likeliest has a lower probability",
    )
    command.add_argument(
        "--orders", metavar="N", type=_count, default=4, help="orders of the shots to average over (default: 4)"
    )


def _add_job(command: argparse.ArgumentParser, formats: list[str]) -> None:
    command.add_argument(
        "paths",
        metavar="PATHS",
        nargs="+",
        help="pictures, folders of them, globs, lists (.csv, .jsonl: file_name), webdataset shards (.tar)",
    )
    _add_model(command)
    command.add_argument("--shots", metavar="FILE", help='examples, one {"image": "path", "text": "words"} a line')
    command.add_argument(
        "--shot", metavar="PICTURE=TEXT", action="append", default=[], help="one more example; may be given again"
    )
    command.add_argument(
        "--select", choices=["random", "similar"], default="random", help="how shots are chosen (default: %(default)s)"
    )
    command.add_argument(
        "--num-shots", metavar="N", type=_count, help="shots to show (default: as many as the model can read)"
    )
    command.add_argument("--seed", metavar="N", type=int, default=0, help="of the random choice (default: 0)")
    command.add_argument(
        "--out",
        metavar="FILE",
        help="write there, each record as soon as it is known; what is there already is gone on with",
    )
    command.add_argument("--overwrite", action="store_true", help="begin --out anew")
    command.add_argument("--format", choices=formats, default="jsonl", help="(default: %(default)s)")
    command.add_argument("--batch-size", metavar="N", type=_count, default=16, help="pictures at once (default: 16)")
    command.add_argument(
        "--ray", metavar="ADDRESS", help="run on the Ray cluster there, or on one that is started here: local"
    )
    command.add_argument(
        "--workers", metavar="N", type=_count_or_zero, help="processes that open pictures (default: as there are cores)"
    )
    command.add_argument(
        "--json",
        action="store_true",
        help="print a summary, with --out to standard output, else to standard error",
    )


def _add_report(commands: Any) -> None:
    about = "Do my shots matter? Held-out pictures with the shots, without, with wrong ones: scores, a plot, a verdict."
    command = commands.add_parser("report", help="whether shots matter", description=about)
    command.add_argument("--shots", metavar="FILE", required=True, help="the examples, as for caption and classify")
    command.add_argument("--heldout", metavar="FILE", required=True, help="pictures with the right texts, likewise")
    command.add_argument("--prompt", metavar="TEXT", help="words that the answer goes on from")
    command.add_argument("--out", metavar="FILE", help="write the plot there: .png, .svg or .pdf (default: no plot)")
    command.add_argument("--json", action="store_true", help="print a JSON object")
    command.add_argument("--batch-size", metavar="N", type=_count, default=16, help="pictures at once (default: 16)")
    command.add_argument("--seed", metavar="N", type=int, default=0, help="of what is shuffled (default: 0)")
    _add_model(command)


def _add_ask(commands: Any) -> None:
    command = commands.add_parser("ask", help="one answer about pictures", description="Ask about one picture or more.")
    _add_pictures(command)
    command.add_argument("--question", metavar="TEXT", required=True, help="what you want to know")


def _add_info(commands: Any) -> None:
    command = commands.add_parser("info", help="what a model is and knows", description="What a model is and knows.")
    command.add_argument("model", metavar="MODEL", nargs="?", default="starter", help="as --model elsewhere")
    command.add_argument("--json", action="store_true", help="print a JSON object")


def _add_import(commands: Any) -> None:
    about = "Convert a checkpoint of OpenFlamingo, Otter, flamingo-mini, Idefics or flamingo-pytorch for --model."
    command = commands.add_parser("import", help="a model that others trained", description=about)
    command.add_argument(
        "source", metavar="SOURCE", help="the checkpoint: its folder, or a .safetensors, .pt or .bin file"
    )
    command.add_argument("--out", metavar="DIR", required=True, help="where to write: a new or empty folder")
    command.add_argument("--lm", metavar="NAME", help="the language model it was trained over: hub name or folder")
    command.add_argument(
        "--vision", metavar="NAME", help="the image model likewise: NAME/PRETRAINED of open_clip, hub name or folder"
    )
    command.add_argument("--tokenizer", metavar="NAME", help="hub name or folder (default: as --lm)")
    command.add_argument(
        "--attend",
        choices=["latest", "all_previous", "next"],
        help="which picture a word sees (default: as its authors' code)",
    )
    command.add_argument(
        "--patches",
        choices=["raw", "normed"],
        help="image patches before or after the last layer norm (default: as in its released models)",
    )
    command.add_argument(
        "--image-size",
        metavar="N",
        type=_count,
        help="pixels of a picture's side, for flamingo-pytorch's models, which do not say (default: 224)",
    )


def _add_serve(commands: Any) -> None:
    about = "Serve the chat page, and the HTTP API under /v1, until interrupted."
    add_serve_options(commands.add_parser("serve", help="the chat page and the HTTP API", description=about))


def add_serve_options(command: argparse.ArgumentParser) -> None:
    """What `flamingo serve` and `app.py` take."""
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    command.add_argument("--port", metavar="N", type=int, default=7860, help="(default: %(default)s)")
    command.add_argument("--data", metavar="DIR", help="keep conversations there (default: the user's data folder)")
    command.add_argument("--database-url", metavar="URL", help="sqlite:///... or postgresql://... (default: in --data)")
    command.add_argument("--pictures-url", metavar="URL", help="a folder, or a URL of fsspec (default: in --data)")
    command.add_argument("--auth", metavar="FILE", help="name:password lines: only these people may come in")
    command.add_argument("--api-keys", metavar="FILE", help="name:key lines: only programs with one of these may ask")
    command.add_argument(
        "--fetch-addresses", action="store_true", help="get pictures from http(s) addresses that programs send"
    )
    command.add_argument(
        "--mcp", action="store_true", help="a tool for assistants (MCP) at /gradio_api/mcp/; needs the extra mcp"
    )
    command.add_argument("--seats", metavar="N", type=_count, default=4, help="answers at once (default: %(default)s)")
    command.add_argument(
        "--most-waiting", metavar="N", type=_count, default=64, help="requests that may wait (default: %(default)s)"
    )
    _add_model(command)


def _add_pictures(command: argparse.ArgumentParser) -> None:
    command.add_argument("paths", metavar="PATHS", nargs="+", help="pictures, folders of pictures, globs")
    _add_model(command)


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default="starter", help="starter, a preset, or a folder (default: %(default)s)")


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} where a probability, 0 to 1, belongs")
    return value


def _count_or_zero(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} where a number above 0 belongs")
    return int(text)
