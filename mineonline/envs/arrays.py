"""Compares what environments return with what they promised."""

from __future__ import annotations

import numpy as np

from mineonline.envs.contract import TensorSpec


def mismatch(found: object, spec: TensorSpec) -> str:
    """What is wrong with an array that should be as `spec` says, to follow its name in a message; "" if nothing is."""
    if not isinstance(found, np.ndarray | np.generic):
        return f"is a {type(found).__name__}, but must be a numpy array"
    if found.dtype != spec.dtype or found.shape != spec.shape:
        return f"is {found.dtype} {list(found.shape)}, but must be {spec.dtype} {list(spec.shape)}"
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        return "has numbers that are not finite"
    return ""
