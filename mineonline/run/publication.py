"""Writes a policy as a folder that others can use: what `evaluate`, `init_from` and the Hugging Face Hub read.

model.safetensors  config.yaml  scores.json  README.md  replay.mp4  curve.png
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mineonline import __version__
from mineonline.errors import ConfigError
from mineonline.run import safetensors_files
from mineonline.run.checkpoint import find_checkpoint, read_iteration
from mineonline.run.curves import draw_curve
from mineonline.run.evaluation import evaluate
from mineonline.run.folder import (
    CONFIG_FILE,
    CURVE_FILE,
    METRICS_FILE,
    PUBLISHED_FILE,
    is_published,
    read_config,
    run_dir_of,
)
from mineonline.run.model_card import model_card
from mineonline.run.trained import read_policy
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
    policy = read_policy(checkpoint, config)
    iteration = read_iteration(checkpoint)
    folder = Path(arguments.folder)
    hub = None if arguments.repo is None else _hub(arguments.repo)
    scores = None if arguments.scores is None else _read_scores(Path(arguments.scores), iteration)
    _check_folder(folder)
    with (
        _gone_if_empty(folder),
        tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{folder.name}.") as temporary,
    ):
        new = Path(temporary)
        facts = {"iteration": str(iteration), "mineonline": __version__}
        safetensors_files.write(new / PUBLISHED_FILE, policy.state_dict(), facts)
        (new / CONFIG_FILE).write_text(yaml.safe_dump(_settings(config), sort_keys=False))
        played = _play(checkpoint, arguments, new, wanted=scores is None)
        here = {"checkpoint": PUBLISHED_FILE, "name": folder.absolute().name}
        results = [{**result, **here} for result in _results(scores or played)]
        found = results[0] if len(results) == 1 else {"results": results}
        (new / SCORES_FILE).write_text(json.dumps(found, indent=2) + "\n")
        run_dir = run_dir_of(checkpoint)
        if not is_published(checkpoint) and (run_dir / METRICS_FILE).is_file():
            draw_curve(run_dir, new / CURVE_FILE)
        parameters = sum(parameter.numel() for parameter in policy.parameters())
        name = arguments.name or folder.absolute().name
        pictures = [file for file in (FILM_FILE, CURVE_FILE) if (new / file).exists()]
        card = model_card(
            config, results, name=name, parameters=parameters, pictures=pictures,
            repo=arguments.repo, licence=arguments.license,
        )  # fmt: skip
        (new / CARD_FILE).write_text(card)
        _move(new, folder)
    print(f"published: {folder}")
    print(f"try it:    python -m mineonline.evaluate {folder} video=film.mp4")
    if hub is not None:
        _upload(hub, arguments, folder)


def _play(checkpoint: Path, arguments: PublishArguments, new: Path, *, wanted: bool) -> dict[str, Any]:
    """Film an episode, if there is to be a film, and play the others if scores are `wanted`: then they are returned."""
    film = str(new / FILM_FILE) if arguments.film else None
    if not wanted and film is None:
        return {}
    episodes = arguments.episodes if wanted else 1
    json_file = new / SCORES_FILE
    evaluate(EvaluateArguments(checkpoint=(str(checkpoint),), episodes=episodes, video=film, json=str(json_file)))
    scores: dict[str, Any] = json.loads(json_file.read_text())
    return scores


def _settings(config: Config) -> dict[str, Any]:
    """The run's, without what only its own machine has."""
    config = msgspec.structs.replace(
        config, run_dir=None, checkpoint=None, init_from=None,
        logger=["csv"],  # what users give their loggers may be a key to a service
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
        results = _results(scores)
        known = results and all({"name", "iteration", "episodes", "seed", "scores"} <= set(each) for each in results)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"scores={file}: cannot be read ({error}).") from None
    if not known or len({each["name"] for each in results}) > 1:
        raise ConfigError(f"scores={file}: must be what `evaluate json=<file>` has written about one checkpoint.")
    if results[0]["iteration"] != iteration:
        raise ConfigError(
            f"scores={file}: is of iteration {results[0]['iteration']}, and the checkpoint of {iteration}. Evaluate it "
            "again, or leave scores=... out."
        )
    assert isinstance(scores, dict)
    return scores


def _results(scores: Any) -> list[dict[str, Any]]:
    """What `evaluate` has written: of a single task, or of several. Empty if it is something else."""
    return list(scores.get("results", [scores])) if isinstance(scores, dict) else []


def _check_folder(folder: Path) -> None:
    """ConfigError if the folder holds anything that is not a publication of ours, or cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {file.name for file in folder.iterdir()}
    except OSError as error:
        raise ConfigError(f"folder={folder}: cannot be a folder ({error.strerror}).") from None
    if names and PUBLISHED_FILE not in names:
        raise ConfigError(f"folder={folder} is not empty. Give a new folder, or one that was published before.")


@contextlib.contextmanager
def _gone_if_empty(folder: Path) -> Iterator[None]:
    """Leave no folder behind if nothing is published."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _move(new: Path, folder: Path) -> None:
    """Put what is in `new` in place of what was published before; other files stay."""
    for name in _FILES:
        if (new / name).exists():
            (new / name).replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def _hub(repo: str) -> Any:
    """The client of the hub. ConfigError if it is not installed."""
    with contextlib.suppress(ImportError):
        import huggingface_hub

        return huggingface_hub
    raise ConfigError(f"repo={repo}: needs a package that is not installed. Type  pip install 'mineonline[hub]'")


def _upload(hub: Any, arguments: PublishArguments, folder: Path) -> None:
    """ConfigError if the hub refuses, with what it says."""
    api = hub.HfApi()
    try:
        url = api.create_repo(arguments.repo, private=arguments.private, exist_ok=True)
        api.upload_folder(
            repo_id=arguments.repo, folder_path=folder, allow_patterns=list(_FILES), delete_patterns=list(_FILES),
            commit_message=f"Published by mineonline {__version__}",
        )  # fmt: skip
    except (OSError, hub.errors.HTTPError, hub.errors.HFValidationError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"repo={arguments.repo}: cannot be uploaded ({reason}). {folder} is complete. Log in with  hf auth login  "
            "and try again."
        ) from None
    print(f"uploaded:  {url}")
