"""Every test is a shape test: jaxtyping and beartype check each call into the package."""

from __future__ import annotations

import torch
from hypothesis import settings
from jaxtyping import install_import_hook

import flamingo_app.config  # noqa: F401  # before the hook, which cannot follow how the library makes configs

install_import_hook("flamingo_app", "beartype.beartype")
torch.set_num_threads(1)
settings.register_profile("laws", deadline=None, derandomize=True)  # a law is no race, and fails for everybody alike
settings.load_profile("laws")
