"""Prints the version, and the constant if it came, of all weights that it gets from the address in its arguments.

A process of its own, so that it can be stopped in the middle.
"""

from __future__ import annotations

import sys

import torch
import zmq

from mineonline.weights.publisher import weights_schema
from mineonline.weights.subscriber import Model, WeightsSubscriber

LARGE = {"weight": torch.zeros(1 << 20)}
CONSTANT = {"reference": torch.zeros(1)}


def main() -> None:
    model = Model(weights_schema(LARGE), weights_schema(CONSTANT))
    subscriber = WeightsSubscriber(zmq.Context(), sys.argv[1], None, run_id="run", model=model)
    while True:
        weights = subscriber.newest(timeout_s=1.0)
        if weights is not None:
            print(weights.version, *(float(tensor) for tensor in weights.constant.values()), flush=True)


if __name__ == "__main__":
    main()
