"""The page about a published policy, in the format of the Hugging Face Hub."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mineonline import __version__
from mineonline.run.folder import label_of
from mineonline.settings.config import Config


def model_card(
    config: Config, results: Sequence[Mapping[str, Any]], *, name: str, parameters: int, pictures: Sequence[str],
    repo: str | None, licence: str | None,
) -> str:  # fmt: skip
    """What the hub reads between the lines `---`, then what people read.

    `results`: as `evaluate` writes them, one for each task. `pictures`: files beside the page. `repo`: where it will
    be, if that is known.
    """
    settings = msgspec.to_builtins(config)
    played = label_of(settings)
    task = "" if config.task is None else f" ({config.task.text})"
    first = results[0]
    actions = "the most probable actions" if first.get("best") else "sampled actions"
    tables = "\n\n".join(_table(result, titled=len(results) > 1) for result in results)
    return f"""---
{yaml.safe_dump(_facts(name, played, results, licence), sort_keys=False).strip()}
---

# {name}

A policy that plays `{played}`{task}, trained with PPO by mineonline {__version__}: `env={settings["env"]["kind"]}`,
`policy={settings["policy"]["kind"]}` with {parameters:,} parameters, iteration {first["iteration"]},
seed {config.seed}.

{_shown(pictures)}## Scores

{first["episodes"]} episodes{" of each task" if len(results) > 1 else ""}, {actions}, seed {first["seed"]}.

{tables}

## Use

With mineonline installed:

```
pip install huggingface_hub && hf download {repo or "<user>/<name>"} --local-dir {shlex.quote(name)}
python -m mineonline.evaluate {shlex.quote(name)} video=film.mp4
python -m mineonline.train {_words(config)} init_from={shlex.quote(name)}
```

The weights are `safetensors`: nothing is unpickled. `config.yaml` has all settings of the run. It may name classes
(`_target_`), which are imported from your machine: read it before you use a folder from somebody you do not know.
"""


def _table(result: Mapping[str, Any], *, titled: bool) -> str:
    head = ["| per episode | mean | 95 % interval | spread | min | max |", "|---|---|---|---|---|---|"]
    title = [f"`{result['task']}`", ""] if titled else []
    return "\n".join([*title, *head, *(_row(key, score) for key, score in result["scores"].items())])


def _fact(played: str, reward: Mapping[str, float]) -> dict[str, Any]:
    metric = {
        "type": "mean_reward", "name": "mean_reward", "value": f"{reward['mean']:.2f} +/- {reward['spread']:.2f}",
        "verified": False,
    }  # fmt: skip
    return {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"type": played, "name": played},
        "metrics": [metric],
    }


def _facts(name: str, played: str, results: Sequence[Mapping[str, Any]], licence: str | None) -> dict[str, Any]:
    of_tasks = [played] if len(results) == 1 else [str(result["task"]) for result in results]
    facts = [_fact(task, result["scores"]["return"]) for task, result in zip(of_tasks, results, strict=True)]
    return {
        **({} if licence is None else {"license": licence}),
        "library_name": "mineonline",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "deep-reinforcement-learning", "minecraft", "ppo", played],
        "model-index": [{"name": name, "results": facts}],
    }


def _row(name: str, score: Mapping[str, float | None]) -> str:
    low, high = score.get("low"), score.get("high")
    ends = "" if low is None or high is None else f"{low:.2f} to {high:.2f}"
    spread, least, most = (f"{score[column]:.2f}" for column in ("spread", "min", "max"))
    return f"| {name} | {score['mean']:.2f} | {ends} | {spread} | {least} | {most} |"


def _shown(pictures: Sequence[str]) -> str:
    lines = [
        f"Film of an episode: [{file}]({file})" if Path(file).suffix == ".mp4" else f"![Learning curve]({file})"
        for file in pictures
    ]
    return "".join(f"{line}\n\n" for line in lines)


def _words(config: Config) -> str:
    """The words of a command line that choose the same task, environment and policy."""
    settings = msgspec.to_builtins(config)
    env, policy = settings["env"], settings["policy"]["kind"]
    tasks = [f"'tasks=[{','.join(config.tasks)}]'"] if config.tasks else []
    task = tasks if config.task is None else [f"task={config.task.name}"]
    words = [f"env={env['kind']}", *([f"env.id={env['id']}"] if env["kind"] == "gym" else [])]
    return " ".join([*task, *words, f"policy={policy}"])
