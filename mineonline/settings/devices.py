"""Checks that a device named in the settings exists, before anything is started on it."""

from __future__ import annotations

import torch

from mineonline.errors import ConfigError

_KINDS = ("cpu", "cuda", "mps", "xpu")


def check_device(key: str, device: str) -> None:
    """ConfigError if `key=device` names no device of this machine. Initialises none: that would take its memory."""
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = torch.device("meta")
    if wanted.type not in _KINDS:
        raise ConfigError(f"{key}={device}: there is no such kind of device. Give cpu, or for example cuda:0.")
    if wanted.type == "cpu":
        return
    count = torch.get_device_module(wanted.type).device_count()
    if (wanted.index or 0) >= count:
        there = f"has {wanted.type}:0 to {wanted.type}:{count - 1}" if count else f"has no {wanted.type} device"
        raise ConfigError(f"{key}={device}: this machine {there}. Give one that exists, or {key}=cpu.")
