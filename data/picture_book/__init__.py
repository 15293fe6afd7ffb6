"""The picture book: a small world whose every picture can be drawn again from its description.

objects.tsv    what there is: a glyph, a name, its plural, and whether training may see it
glyphs.png     the glyphs, drawn once from the Noto Color Emoji font (atlas.py; SIL Open Font License, see GLYPHS.md)
world          objects and colours
scene          what stands where on one page, drawn at random
render         scenes to pictures, many at a time, in torch
"""

from data.picture_book.render import Renderer
from data.picture_book.scene import Kind, Placed, Scene, random_scene
from data.picture_book.world import COLOURS, OBJECTS, Object, Stage, objects

__all__ = ["COLOURS", "OBJECTS", "Kind", "Object", "Placed", "Renderer", "Scene", "Stage", "objects", "random_scene"]
