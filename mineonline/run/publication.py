"""Writes a policy as a folder that others can use: what `evaluate`, `init_from` and the Hugging Face Hub read.

model.safetensors  config.yaml  scores.json  README.md  replay.mp4  curve.png
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mineonline import __version__
from mineonline.envs.build import env_spec
from mineonline.errors import ConfigError
from mineonline.policies.build import build_policy
from mineonline.run import safetensors_files
from mineonline.run.checkpoint import find_checkpoint, read_iteration, read_policy_state
from mineonline.run.curves import draw_curve
from mineonline.run.evaluation import evaluate
from mineonline.run.folder import (
    CONFIG_FILE,
    CURVE_FILE,
    METRICS_FILE,
    PUBLISHED_FILE,
    is_published,
    label_of,
    read_config,
    run_dir_of,
)
from mineonline.settings.arguments import EvaluateArguments, PublishArguments
from mineonline.settings.config import Config, VptPolicyConfig

SCORES_FILE = "scores.json"
CARD_FILE = "README.md"
FILM_FILE = "replay.mp4"
"""The name under which the hub shows a film beside the card."""
_FILES = (PUBLISHED_FILE, CONFIG_FILE, SCORES_FILE, CARD_FILE, FILM_FILE, CURVE_FILE)


def publish(arguments: PublishArguments) -> None:
    """Write the folder, and upload it if asked to. MineonlineError for what the user can fix."""
    checkpoint = find_checkpoint(arguments.checkpoint, None)
    config = read_config(checkpoint)
    policy = build_policy(config, env_spec(config.env, config.task))
    policy.load_state_dict(read_policy_state(checkpoint, policy))
    iteration = read_iteration(checkpoint)
    folder = Path(arguments.folder)
    hub = None if arguments.repo is None else _hub(arguments.repo)
    scores = None if arguments.scores is None else _read_scores(Path(arguments.scores), iteration)
    _check_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{folder.name}.") as temporary:
        new = Path(temporary)
        facts = {"iteration": str(iteration), "mineonline": __version__}
        safetensors_files.write(new / PUBLISHED_FILE, policy.state_dict(), facts)
        (new / CONFIG_FILE).write_text(yaml.safe_dump(_settings(config), sort_keys=False))
        film = new / FILM_FILE if arguments.film else None
        if scores is None or film is not None:
            evaluate(
                EvaluateArguments(
                    checkpoint=(temporary,),
                    episodes=1 if scores is not None else arguments.episodes,
                    video=None if film is None else str(film),
                    json=None if scores is not None else str(new / SCORES_FILE),
                )
            )
        if scores is None:
            scores = json.loads((new / SCORES_FILE).read_text())
        # what was played lay in the temporary folder
        scores = {**scores, "checkpoint": PUBLISHED_FILE, "name": folder.absolute().name}
        (new / SCORES_FILE).write_text(json.dumps(scores, indent=2) + "\n")
        run_dir = run_dir_of(checkpoint)
        if not is_published(checkpoint) and (run_dir / METRICS_FILE).is_file():
            draw_curve(run_dir, new / CURVE_FILE)
        (new / CARD_FILE).write_text(_card(arguments, config, scores, new, sum(p.numel() for p in policy.parameters())))
        _move(new, folder)
    print(f"published: {folder}")
    print(f"try it:    python -m mineonline.evaluate {folder} video=film.mp4")
    if hub is not None:
        _upload(hub, arguments, folder)


def _settings(config: Config) -> dict[str, Any]:
    """The run's, without what only its own machine has."""
    config = msgspec.structs.replace(
        config, run_dir=None, checkpoint=None, init_from=None,
        offline=msgspec.structs.replace(config.offline, folder=None),
        reference=msgspec.structs.replace(config.reference, checkpoint=None),
        wandb=msgspec.structs.replace(config.wandb, entity=None),
    )  # fmt: skip
    if isinstance(config.policy, VptPolicyConfig):
        config = msgspec.structs.replace(config, policy=msgspec.structs.replace(config.policy, weights=None))
    settings: dict[str, Any] = msgspec.to_builtins(config)
    return settings


def _read_scores(file: Path, iteration: int) -> dict[str, Any]:
    """What `evaluate` has written about the checkpoint. ConfigError if it is of something else."""
    try:
        scores = json.loads(file.read_text())
        known = {"iteration", "episodes", "seed", "scores"} <= set(scores)
    except (OSError, hub.errors.HFValidationError) as error:  # the hub's HTTP errors are OSErrors
        raise ConfigError(
            f"repo={arguments.repo}: cannot be uploaded ({str(error).splitlines()[0]}). {folder} is complete. Log in "
            "with  hf auth login  and try again."
        ) from None
    print(f"uploaded:  {url}")
