"""Pictures to pixel values, as the image tower was trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from open_clip.transform import PreprocessCfg, image_transform_v2  # pyright: ignore[reportMissingTypeStubs]
from PIL import Image
from torch import Tensor
from transformers import BaseImageProcessor, BatchFeature

from flamingo_app.errors import ConfigError
from flamingo_app.images import Source, open_picture, several

CHOICES = {"resize_mode": ("shortest", "longest", "squash"), "interpolation": ("bicubic", "bilinear")}


class FlamingoImageProcessor(BaseImageProcessor):
    """The fields of open_clip's `preprocess_cfg`, saved and loaded as Hugging Face does.

    Args:
        size: side of the square, or (height, width), in pixels.
        mean, std: of each channel, of values between 0 and 1.
        interpolation: "bicubic" or "bilinear".
        resize_mode: "shortest" side to size, then cut the middle; "longest" side, then pad; "squash" both.
        fill_color: what pads, 0 to 255.
        kwargs: what Hugging Face keeps beside these.
    """

    model_input_names = ["pixel_values", "image_mask"]  # noqa: RUF012  # declared so by the base class

    def __init__(
        self,
        *,
        size: int | Sequence[int] = PreprocessCfg.size,
        mean: Sequence[float] = PreprocessCfg.mean,
        std: Sequence[float] = PreprocessCfg.std,
        interpolation: str = PreprocessCfg.interpolation,
        resize_mode: str = PreprocessCfg.resize_mode,
        fill_color: int = PreprocessCfg.fill_color,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("resize_mode", resize_mode), ("interpolation", interpolation)):
            if value not in CHOICES[name]:
                raise ConfigError(
                    expected=" or ".join(CHOICES[name]), got=f"{name}={value!r}", remedy="correct the picture settings"
                )
        self.size = size if isinstance(size, int) else list(size)
        self.mean, self.std = list(mean), list(std)
        self.interpolation, self.resize_mode, self.fill_color = interpolation, resize_mode, fill_color

    def pixels(self, pictures: Sequence[Source]) -> Float[Tensor, "pictures 3 height width"]:
        """Pixel values of at least one picture, by open_clip's own transform for inference."""
        fields = ("size", "mean", "std", "interpolation", "resize_mode", "fill_color")
        settings = PreprocessCfg(**{name: getattr(self, name) for name in fields})
        transform = cast("Callable[[Image.Image], Tensor]", image_transform_v2(settings, is_train=False))
        return torch.stack([transform(open_picture(picture)) for picture in pictures])

    def rows(
        self, images: Sequence[Sequence[Source]]
    ) -> tuple[Float[Tensor, "batch images 1 3 height width"], Bool[Tensor, "batch images"]]:
        """Pixel values of rows of pictures, not all of them empty, and which of them exist; zeros fill a row's end."""
        counts = torch.tensor([len(row) for row in images])
        exists = torch.arange(int(counts.max())) < counts[:, None]
        pixels = self.pixels([picture for row in images for picture in row])
        values = pixels.new_zeros(*exists.shape, 1, *pixels.shape[1:])
        values[exists] = pixels.unsqueeze(1)
        return values, exists

    def preprocess(self, images: Any, *, return_tensors: str = "pt", **_: Any) -> BatchFeature:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What Hugging Face calls: `pixel_values` (pictures 3 height width) of a picture or a list of them."""
        return BatchFeature({"pixel_values": self.pixels([*several(images)])}, tensor_type=return_tensors)
