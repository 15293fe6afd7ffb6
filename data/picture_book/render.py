"""Scenes to pictures: glyphs are sampled from the atlas under an affine map and laid over the background, in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from data.picture_book.invented import Invented
from data.picture_book.scene import Placed, Scene
from data.picture_book.world import ATLAS_COLUMNS, ATLAS_FILE, CELL, OBJECTS, Object

TEXTURE = 512  # pixels a side of the noise that grain and photo-like pages are cut from
MIPMAPS = 3  # each level halves the glyphs, so that small objects are drawn without aliasing


class Renderer:
    """Draws scenes.

    Args:
        size: pixels a side of the square pictures.
        device: where to draw; the atlas is held there.
    """

    def __init__(self, size: int = 96, device: torch.device | str = "cpu") -> None:
        self.size, self.device = size, torch.device(device)
        atlas = pil_to_tensor(Image.open(ATLAS_FILE).convert("RGBA")).float() / 255
        glyphs = rearrange(atlas, "c (row h) (column w) -> (row column) c h w", h=CELL, column=ATLAS_COLUMNS)[
            : len(OBJECTS)
        ]
        glyphs = torch.cat([glyphs[:, :3] * glyphs[:, 3:], glyphs[:, 3:]], 1).to(self.device)  # premultiplied alpha
        self.mipmaps = [glyphs if level == 0 else F.avg_pool2d(glyphs, 2**level) for level in range(MIPMAPS)]
        self.textures = _pink_noise(self.device)
        steps = (torch.arange(size, device=self.device) + 0.5) / size
        self.y, self.x = torch.meshgrid(steps, steps, indexing="ij")

    def __call__(self, scenes: Sequence[Scene]) -> Float[Tensor, "batch 3 height width"]:
        """Pictures of the scenes, 0 to 1 (sRGB)."""
        pictures = torch.stack([self._background(scene) for scene in scenes])
        for depth in range(max((len(scene.objects) for scene in scenes), default=0)):
            rows = [row for row, scene in enumerate(scenes) if len(scene.objects) > depth]
            placed = [scenes[row].objects[depth] for row in rows]
            levels = [max(0, min(MIPMAPS - 1, int(math.log2(CELL / (o.size * self.size))))) for o in placed]
            for level in set(levels):
                here = [i for i, of in enumerate(levels) if of == level]
                self._lay_over(pictures, [rows[i] for i in here], [placed[i] for i in here], level)
        return pictures.clamp_(0, 1)

    def _lay_over(self, pictures: Tensor, rows: list[int], placed: list[Placed], level: int) -> None:
        """Composite one object on each of some pictures, within a square window around it."""
        window = min(self.size, math.ceil(max(o.size for o in placed) * self.size * 1.42) + 2)
        numbers = torch.tensor(
            [[o.x, o.y, o.size, math.radians(o.angle), -1.0 if o.mirrored else 1.0] for o in placed], device=self.device
        )
        x, y, size, angle, mirror = numbers.unbind(1)
        left = ((x * self.size - window / 2).round().long()).clamp(0, self.size - window)
        top = ((y * self.size - window / 2).round().long()).clamp(0, self.size - window)
        steps = torch.arange(window, device=self.device)
        columns, lines = left[:, None] + steps, top[:, None] + steps
        u = ((columns + 0.5) / self.size - x[:, None])[:, None, :] * 2 / size[:, None, None]
        v = ((lines + 0.5) / self.size - y[:, None])[:, :, None] * 2 / size[:, None, None]
        cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
        grid = torch.stack([(u * cos + v * sin) * mirror[:, None, None], v * cos - u * sin], -1)
        drawn = F.grid_sample(torch.stack([self._glyph(o.thing, level) for o in placed]), grid, align_corners=False)
        where = (
            torch.tensor(rows, device=self.device)[:, None, None],
            slice(None),
            lines[:, :, None],
            columns[:, None, :],
        )
        colour, alpha = drawn[:, :3], drawn[:, 3:]
        under = rearrange(pictures[where], "n h w c -> n c h w")
        pictures[where] = rearrange(colour + under * (1 - alpha), "n c h w -> n h w c")

    def _glyph(self, thing: Object, level: int) -> Float[Tensor, "4 height width"]:
        glyphs = self.mipmaps[level]
        if not isinstance(thing, Invented):
            return glyphs[thing.index]
        half = glyphs.shape[2] // 2
        glyph = torch.cat([glyphs[thing.index, :, :half], glyphs[thing.below, :, half:]], 1)
        return glyph[[*thing.order, 3]]

    def _background(self, scene: Scene) -> Float[Tensor, "3 height width"]:
        first, second = (torch.tensor(shade, device=self.device)[:, None, None] / 255 for shade in scene.shades)
        if scene.style == "photo":
            page = self._photo(scene.seed)
        elif scene.style == "plain":
            page = first.expand(3, self.size, self.size).clone()
        else:
            angle = scene.seed % 360 * math.pi / 180
            along = ((self.x - 0.5) * math.cos(angle) + (self.y - 0.5) * math.sin(angle) + 0.5).clamp(0, 1)
            page = first + (second - first) * along
            if scene.style == "grain":
                page = page + 0.03 * self._cut(scene.seed)
        width, height = scene.shape
        if scene.shape != (1.0, 1.0):
            page = page * (((self.x - 0.5).abs() <= width / 2) & ((self.y - 0.5).abs() <= height / 2))
        return page

    def _cut(self, seed: int, zoom: int = 1) -> Float[Tensor, "3 height width"]:
        """A piece of the noise, chosen by the seed."""
        side = self.size // zoom
        top, left = seed % (TEXTURE - side), (seed // TEXTURE) % (TEXTURE - side)
        piece = self.textures[:, top : top + side, left : left + side]
        return piece if zoom == 1 else F.interpolate(piece[None], size=(self.size,) * 2, mode="bilinear")[0]

    def _photo(self, seed: int) -> Float[Tensor, "3 height width"]:
        """What has a photograph's statistics (falling spectrum, soft regions, edges) and is no page of the book."""
        tint = torch.rand(3, 3, generator=torch.Generator().manual_seed(seed)).to(self.device)
        tint = 0.4 * tint + 0.6 * tint.mean(0)  # photographs are greyer than chance
        near, far = self._cut(seed, zoom=2), self._cut(seed // 7)
        edge = (self._cut(seed // 3, zoom=4)[:1] * 4).sigmoid() > 0.5
        mixed = torch.where(edge, near, far) * 0.25 + far.mean(0) * 0.1
        return torch.einsum("ij,jhw->ihw", tint - 0.3, mixed) + tint.mean(1)[:, None, None]


def _pink_noise(device: torch.device) -> Float[Tensor, "3 side side"]:
    """Noise whose amplitude falls with frequency, as in photographs; mean 0, deviation 1, the same at every call."""
    white = torch.randn(3, TEXTURE, TEXTURE, generator=torch.Generator().manual_seed(0))
    frequency = torch.fft.fftfreq(TEXTURE)[:, None].square() + torch.fft.rfftfreq(TEXTURE).square()
    noise = torch.fft.irfft2(torch.fft.rfft2(white) / frequency.sqrt().clamp(min=1 / TEXTURE), s=(TEXTURE, TEXTURE))
    return ((noise - noise.mean((1, 2), keepdim=True)) / noise.std((1, 2), keepdim=True)).to(device)
