"""Draw every glyph once from the Noto Color Emoji font into `glyphs.png`.

    python -m data.picture_book.atlas /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf

Only needed again when `objects.tsv` changes: the atlas is part of the repository.
"""

from __future__ import annotations

import sys

from PIL import Image, ImageDraw, ImageFont

from data.picture_book.world import ATLAS_COLUMNS, ATLAS_FILE, CELL, OBJECTS

STRIKE = 109  # the one bitmap size that the font holds, in points


def draw_glyph(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One glyph, cropped to what is drawn and fitted into a transparent square cell."""
    canvas = Image.new("RGBA", (2 * STRIKE, 2 * STRIKE))
    ImageDraw.Draw(canvas).text((STRIKE // 4, STRIKE // 4), emoji, font=font, embedded_color=True)
    glyph = canvas.crop(canvas.getbbox())
    scale = (CELL - 2) / max(glyph.size)
    glyph = glyph.resize((round(glyph.width * scale), round(glyph.height * scale)), Image.Resampling.LANCZOS)
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(glyph, ((CELL - glyph.width) // 2, (CELL - glyph.height) // 2))
    return cell


def main(font_file: str) -> None:
    font = ImageFont.truetype(font_file, STRIKE)
    rows = -(-len(OBJECTS) // ATLAS_COLUMNS)
    atlas = Image.new("RGBA", (ATLAS_COLUMNS * CELL, rows * CELL))
    for index, thing in enumerate(OBJECTS):
        row, column = divmod(index, ATLAS_COLUMNS)
        atlas.paste(draw_glyph(thing.emoji, font), (column * CELL, row * CELL))
    atlas.save(ATLAS_FILE, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
