"""A model's identity: a hash of its configuration, state layout and weights."""

import json
from collections.abc import Mapping
from hashlib import sha256

import torch
from torch import Tensor

from .config import StoredConfig
from .state import StateLayout


def digest_of(config: StoredConfig, layout: StateLayout, tensors: Mapping[str, Tensor]) -> str:
    """Return SHA-256 in hexadecimal over the configuration, the state layout and all tensors by name."""
    digest = sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
    for part in layout.parts:
        digest.update(f"\n{part.name} {part.dtype} {list(part.shape)}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
