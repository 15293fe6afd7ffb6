"""The frozen weights of each layer spread over the processes, by FSDP2's `fully_shard`.

What learns stays whole in every process, and DDP averages its gradients: so checkpoints are those of any other run.
"""

from __future__ import annotations

import os

from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from flamingo_app.errors import ConfigError
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.language_model import decoder_layers
from training.settings import Settings

FSDP = "ACCELERATE_USE_FSDP"  # how `accelerate launch` says so


def asked(settings: Settings) -> bool:
    """Whether the launcher's config is for FSDP.

    Raises:
        ConfigError: it is, and there are adapters, which could not be merged with shards.
    """
    sharded = os.environ.get(FSDP, "").lower() == "true"
    if sharded and settings.lora:
        raise ConfigError(
            expected="whole language models where --lora is to be merged into one",
            got="a launcher that shards them",
            remedy="use training/configs/ddp.yaml, or leave --lora out",
        )
    return sharded


def shard(model: FlamingoForConditionalGeneration, device: str, processes: int) -> str:
    """Leave each process its part of the decoder's and the image tower's layers; each is gathered while it is used.

    Args:
        device: the kind of the processes' devices.

    Returns:
        A line that tells how much is here.
    """
    mesh = init_device_mesh(device, (processes,))
    for layer in _layers(model):
        learning = {parameter for parameter in layer.parameters() if parameter.requires_grad}
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=learning)
        assert isinstance(layer, FSDPModule)
        # Gathered for the first time in inference mode, they could not be learnt through afterwards.
        layer.unshard()
        layer.reshard()
    spread = {name: parameter for name, parameter in model.named_parameters() if isinstance(parameter, DTensor)}
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # pyright: ignore[reportPrivateUsage]
        model, list(spread)
    )
    here, there = (sum(part.numel() for part in parts) for parts in (map(local, spread.values()), spread.values()))
    return f"frozen weights of the layers: {here:,} of {there:,} in this process"


def local(tensor: Tensor) -> Tensor:
    """What of a tensor lies in this process: all of it where it is not spread."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _layers(model: FlamingoForConditionalGeneration) -> list[nn.Module]:
    tower = model.vision_encoder.tower
    blocks = list(tower.transformer.resblocks) if isinstance(tower, VisionTransformer) else []
    return [*decoder_layers(model.language_model), *blocks]
