"""Load a model and serve the chat page until interrupted."""

from __future__ import annotations

from pathlib import Path

from gradio.themes import Base, Soft

from flamingo_app.errors import FlamingoError
from flamingo_app.interfaces.web.page import build_page
from flamingo_app.model.checkpoint import load

HERE = Path(__file__).parent
MAX_BYTES = 20 * 2**20
CONCURRENCY = 4
"""Answers given at once."""


def serve(
    model: str = "starter",
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_bytes: int = MAX_BYTES,
    quiet: bool = False,
) -> None:
    """Serve the chat page on http://host:port; returns when interrupted.

    Args:
        model: "starter", a preset, or a folder.
        host: the address to listen on; "0.0.0.0" lets other machines in.
        port: the port to listen on.
        max_bytes: the largest picture file that is taken.
        quiet: do not print the address.

    Raises:
        FlamingoError: where the model cannot be loaded.
    """
    flamingo, processor = load(model)
    page = build_page(flamingo, processor, name=model, max_bytes=max_bytes, concurrency=CONCURRENCY)
    try:
        page.queue(max_size=64).launch(
            server_name=host,
            server_port=port,
            max_file_size=max_bytes,
            quiet=quiet,
            share=False,
            ssr_mode=False,
            footer_links=[],
            theme=theme(),
            css_paths=HERE / "style.css",
            favicon_path=HERE / "flamingo.svg",
        )
    except OSError:
        raise FlamingoError(
            expected="a free port", got=f"{host}:{port} cannot be had", remedy="choose another port"
        ) from None


def theme() -> Base:
    """Flamingo pink on paper; fonts of the reader's own, so that nothing is fetched from elsewhere."""
    fonts = ["ui-rounded", "system-ui", "sans-serif"]
    return Soft(
        primary_hue="pink",
        secondary_hue="rose",
        neutral_hue="stone",
        radius_size="lg",
        font=fonts,
        font_mono=["ui-monospace", "monospace"],
    )
