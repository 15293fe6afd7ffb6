"""Every test is a shape test: jaxtyping and beartype check each call into the package."""

from __future__ import annotations

import torch
from jaxtyping import install_import_hook

install_import_hook("flamingo_app", "beartype.beartype")
torch.set_num_threads(1)
