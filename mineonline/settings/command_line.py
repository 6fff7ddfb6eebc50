"""Turns a command line into settings, with errors that say what to type. Used by the commands and for resuming."""

from __future__ import annotations

import difflib
import logging
import os
import re
import select
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra
import msgspec
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mineonline.envs.tasks import Task
from mineonline.errors import ConfigError, MineonlineError
from mineonline.settings.help import describe_arguments
from mineonline.settings.meanings import values_of, with_article, words_for
from mineonline.settings.parsing import NO_FIRST_LINE, why_unreadable
from mineonline.settings.suggestions import suggest_choice, suggest_key
from mineonline.settings.sweeps import SEARCH, Outcome, in_sweep, job_folder, run_job

CONF_DIR = Path(__file__).resolve().parent.parent / "conf"
"""A link to the `conf/` next to the package, so that a wheel contains it too."""

_OPEN = ("trainer.", "optimizer.learning_rates=")
"""Any argument of lightning.Trainer, and any pattern of parameters' names."""

_MOST_JOBS = 20
"""Jobs of a sweep that are checked before the first one starts."""

Words = TypeVar("Words", bound=msgspec.Struct)


def show_help_if_asked(words: Sequence[str], usage: str, *kinds: type[msgspec.Struct]) -> None:
    """Print `usage` and the keys of `kinds`, and leave, if `words` ask for help."""
    if {"--help", "-h"} & {*words}:
        print("\n\n".join([usage, *map(describe_arguments, kinds)]))
        raise SystemExit(0)


def parse_words(words: Sequence[str], kind: type[Words], usage: str, *, plain: str | None = None) -> Words:
    """A command line of key=value words as a struct. `usage` opens what `--help` prints.

    A tuple takes `key=value`, `key=[value,value]`, or the key several times. `plain`: the tuple that words without `=`,
    and existing files, belong to. A field whose name ends with a dot, as in `env.`, takes all words that begin with it,
    whole. ConfigError says which word cannot be used, and what to type instead.
    """
    show_help_if_asked(words, usage, kind)
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    lists = [field.encode_name for field in msgspec.structs.fields(kind) if typing.get_origin(field.type) is tuple]
    values: dict[str, str | list[str]] = {name: [] for name in lists}
    for word in words:
        key, equals, value = word.partition("=")
        section = key[: key.find(".") + 1]
        if key.startswith("-") and key.lstrip("-") in known:
            raise ConfigError(f"{word}: write it without dashes: {key.lstrip('-')}={value or '<value>'}.")
        if plain is not None and (not equals or (key not in known and Path(word).exists())):
            key, value = plain, word
        elif not equals:
            only = f" Did you mean {known[0]}={word}?" if Path(word).exists() else ""
            raise ConfigError(f"{word}: arguments are key=value.{only} There are: {', '.join(known)}.")
        elif section and section in known:
            key, value = section, word
        elif key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else f" There are: {', '.join(known)}."
            raise ConfigError(f"{key}: there is no such key.{hint}")
        earlier = values.get(key)
        values[key] = [*earlier, *_listed(value)] if isinstance(earlier, list) else value
    for field in msgspec.structs.fields(kind):
        if field.required and not values.get(field.encode_name):
            name = field.encode_name
            raise ConfigError(f"{name}: a value is missing. Give {name}=<value>; --help shows all arguments.")
    try:
        return msgspec.convert({name: value for name, value in values.items() if value != []}, kind, strict=False)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        key = path.strip("`$.")
        limit = re.search(r"[<>]=? .+", text)
        if limit:
            raise ConfigError(f"{key}={values[key]}: must be {limit.group()}.") from None
        hint = next(field.type for field in msgspec.structs.fields(kind) if field.encode_name == key)
        raise ConfigError(f"{key}={values[key]}: must be {with_article(words_for(hint))}.") from None


def _listed(value: str) -> list[str]:
    """What `[a,b]` lists; any other text is one value."""
    values = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else [value]
    return [each.strip() for each in values if each.strip()]


def with_config_dirs(words: Sequence[str]) -> list[str]:
    """`words`, with `--config-dir <folder>` turned into the override `hydra.searchpath`, which a resume keeps.

    ConfigError if there is no such folder.
    """
    rest, folders = [], []
    remaining = iter(words)
    for word in remaining:
        flag, equals, value = word.partition("=")
        if flag not in ("--config-dir", "-cd"):
            rest.append(word)
            continue
        given = value if equals else next(remaining, "")
        if not Path(given or "-").is_dir():
            raise ConfigError(f"{flag} {given}: there is no such folder.")
        folders.append(_quoted(f"file://{Path(given).absolute()}"))
    return with_overrides(rest, [f"hydra.searchpath=[{','.join(folders)}]", *overrides_in(rest)]) if folders else rest


def overrides_in(words: Sequence[str]) -> list[str]:
    """The words of a command line that are no flags of Hydra's, nor their values: key=value, and ~key."""
    return [word for word in words if ("=" in word and not word.startswith("-")) or word.startswith("~")]


def with_overrides(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """`words` with `overrides` in place of its own: side by side, since Hydra does not take flags between them."""
    old = overrides_in(words)
    before = words.index(old[0]) if old else 0
    return [*words[:before], *overrides, *(word for word in words[before:] if word not in old)]


def _quoted(text: str) -> str:
    """As a string in Hydra's grammar, whatever characters it has."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def run_hydra(words: Sequence[str], run: Callable[[dict[str, Any], list[str]], Outcome | None]) -> None:
    """Compose `conf/` with `words`, which may hold Hydra's flags, and call `run` for each job that they ask for.

    `run` is given the job's settings, and the overrides that lead to them, without flags. A sweeper is told its value.
    """

    def start(composed: DictConfig) -> float | None:
        used = HydraConfig.get().overrides
        folders = [override for override in used.hydra if override.startswith("hydra.searchpath=")]
        overrides = [*folders, *(word for word in used.task if not word.startswith(SEARCH))]

        def run_with(more: dict[str, Any]) -> Outcome | None:
            settings = settings_with_tasks(composed, overrides)
            given = {key: value for key, value in settings.items() if value is not None}
            return run({**settings, **more, **given}, overrides)

        if not in_sweep():
            report_errors(lambda: run_with({}))
            return None
        folder = job_folder()
        # Lightning starts other ranks with these words, and they must not start a sweep
        sys.argv[1:] = open_settings([f"run_dir={_quoted(str(folder))}", *overrides])
        return run_job(lambda: run_with({"run_dir": str(folder)}))  # errors are the sweeper's

    sys.argv[1:] = open_settings(words)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or it would print errors itself, and a traceback of a job's error
    with _explained():
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(start)()


def settings_with_tasks(composed: DictConfig, overrides: Sequence[str], *, complete: bool = True) -> dict[str, Any]:
    """`settings_of`, with each of `tasks` in full: its file of the group `task`, changed by the overrides of `task.*`.

    ConfigError if the overrides say twice what is played.
    """
    typed = {_key(override): override.partition("=")[2] for override in overrides}
    chosen = typed.get("task", "")
    if chosen.startswith("["):
        raise ConfigError(
            f"task={chosen}: this would merge the files into one task. To train on several, write tasks={chosen}, or "
            "with weights 'tasks={hunt_cow: 2, chop_tree: 1}'."
        )
    settings = settings_of(composed, complete=complete)
    named = settings["tasks"]
    if not named:
        return settings
    if chosen:
        raise ConfigError(f"task={chosen} and tasks={named} both say what is played. Give one of them (tasks=null).")
    if not isinstance(named, list | dict) or not all(isinstance(name, str) for name in named):
        raise ConfigError(f"tasks={named}: write tasks=[hunt_cow,chop_tree], or 'tasks={{hunt_cow: 2, chop_tree: 1}}'.")
    weights = named if isinstance(named, dict) else dict.fromkeys(named, 1)
    rest = tuple(open_settings([override for override in overrides if _key(override) != "tasks"]))
    tasks: dict[str, Any] = {}
    for file, weight in weights.items():
        task = _compose_task(file, rest)
        if task["name"] in tasks:
            raise ConfigError(f"tasks.{file}: another of the tasks has its name, {task['name']}. Change one of them.")
        tasks[task["name"]] = {"weight": weight, "task": task}
    return {**settings, "task": None, "tasks": tasks}


@cache  # a command line is checked before Hydra composes it again
def _compose_task(file: str, overrides: tuple[str, ...]) -> Any:
    there = GlobalHydra.instance().is_initialized()
    with nullcontext() if there else initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            return settings_of(compose("config", [*overrides, f"task={file}"]))["task"]
        except HydraException as error:
            text = _explain(error).replace("Write +task.", "Write ++task.")  # other tasks may have the key
            raise ConfigError(f"tasks.{file}: {text}") from None


def settings_of(composed: DictConfig, *, complete: bool = True) -> dict[str, Any]:
    """The composed configuration as plain dicts and lists. ConfigError names a missing value."""
    try:
        settings = OmegaConf.to_container(composed, resolve=True, throw_on_missing=complete)
    except OmegaConfBaseException as error:
        key = str(error.full_key)
        raise ConfigError(f"{key}: a value is missing. Give {key}=<value>.") from None
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def open_settings(overrides: Sequence[str]) -> list[str]:
    """Hydra's form of overrides that may name keys which `conf/` does not list."""
    return [f"++{override}" if override.startswith(_OPEN) else override for override in overrides]


def compose_settings(overrides: Sequence[str], *, complete: bool = True) -> dict[str, Any]:
    """Compose `conf/` with overrides, as Hydra does. ConfigError says what to type instead.

    If it need not be `complete`, a missing value is `???`.
    """
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"), _explained():
        try:
            return settings_with_tasks(compose("config", open_settings(overrides)), overrides, complete=complete)
        except HydraException:  # one of its classes is an OSError, too
            raise
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{_file_in(error)}: cannot be read ({why_unreadable(error)}).") from None


def compose_jobs(words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The settings of the job that `words` ask for; of a sweep, so many that each value is in one of them.

    `words` may hold Hydra's flags. ConfigError says what to type instead.
    """
    overrides = overrides_in(words)
    if not {"-m", "--multirun"} & {*words}:
        yield compose_settings(overrides)
        return
    with _explained():
        parsed = OverridesParser.create().parse_overrides(open_settings(overrides))
    swept = [_sweep_values(each) for each in parsed]
    for index in range(min(_MOST_JOBS, max(map(len, swept), default=1))):
        yield compose_settings([values[index % len(values)] for values in swept if values])


def _sweep_values(override: Override) -> list[str]:
    """The overrides that one of a sweep stands for; none for those that only Hydra can tell."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if override.is_discrete_sweep() and override.value_type is not ValueType.GLOB_CHOICE_SWEEP:
        name = str(override.input_line).partition("=")[0]
        return [f"{name}={value}" for value in override.sweep_string_iterator()]
    return []


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what Hydra and the readers of its files raise into a ConfigError that says what to type instead."""
    try:
        yield
    except HydraException as error:
        raise ConfigError(_explain(error)) from None
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(f"{key}{str(error).splitlines()[0]}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{_file_in(error)}: cannot be read ({why_unreadable(error)}).") from None


def _file_in(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return str(mark.name if mark else getattr(error, "filename", None) or "a file of settings")


def merge_overrides(earlier: Sequence[str], later: Sequence[str]) -> list[str]:
    """Both lists; where they name the same key, `later` wins."""
    keys = {_key(override) for override in later}
    return [override for override in earlier if _key(override) not in keys] + [*later]


def report_errors(main: Callable[[], object]) -> None:
    """Run `main`. A MineonlineError ends the process with exit code 1, and only its text is printed.

    So does, without a word, a pipe that nobody reads any more: `... --help | head -n 3`.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, as with >&-
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 for as long as the process lives
    try:
        try:
            main()
        except SystemExit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except MineonlineError as error:
        fail(error)
    except BrokenPipeError:
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)
        if not output.poll(0):
            raise  # it was another pipe
        # or the interpreter would complain that it cannot flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def fail(error: MineonlineError, code: int = 1) -> NoReturn:
    """Print the error and leave."""
    print(f"error: {error}", file=sys.stderr)
    logging.shutdown()
    sys.exit(code)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _explain(error: HydraException) -> str:
    text = str(error)
    first = text.splitlines()[0].rstrip(".") if text else type(error).__name__
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown:
        return _explain_unknown(unknown.group(1))
    there = re.match(r"Could not append to config\. An item is already at '([^']+)'", text)
    if there:
        return f"+{there.group(1)}: it is there already. Write {there.group(1)}=... without the plus sign."
    group = re.search(r"looks like a config group override, but config group '(.+?)' does not exist", text)
    if group:
        key = group.group(1).lstrip("+~").replace("/", ".")
        return f"{group.group(1)}: there is no such group of choices. {suggest_key(key)}"
    if "@experiment." in text:  # where Hydra puts the choices of a file that does not say where they belong
        return NO_FIRST_LINE
    if isinstance(error, MissingConfigException) and error.options is not None and error.missing_cfg_file:
        return _explain_choice(error.missing_cfg_file, error.options)
    sweep = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'", text)
    if sweep:
        key, _, values = sweep.group(1).lstrip("+~").partition("=")
        listed = "" if "(" in values else f"write {key}=[{values}] for a list, or "
        return f"{key}={values}: {listed}add -m for a run with each of these values."
    if isinstance(error, OverrideParseException):
        return f"{error.override}: {first}. Write key=value, and quote what the shell would change."
    merging = re.match(r"Error merging override (.+)", text)
    if merging:
        cause = str(error.__cause__).splitlines()[0] if error.__cause__ else first
        if cause == "list index out of range":
            return f"{merging.group(1)}: the list has no such element; the first is 0."
        key = merging.group(1).partition("=")[0].lstrip("+~")
        return f"{merging.group(1)}: {cause}.{f' It takes {values}.' if (values := values_of(key)) else ''}"
    return f"{first}."


def _explain_unknown(key: str) -> str:
    if key in [f"task.{field}" for field in Task.__struct_fields__]:
        return f"{key} is not set by this task. Write +{key}=... to add it."
    if ".kwargs." in key or ".observations." in key:
        return f"{key} is not set yet. Write +{key}=... to add it."
    return f"{key}: there is no such key. {suggest_key(key)}"


_PLUGINS = {
    "submitit_slurm": "mineonline[cluster]", "submitit_local": "mineonline[cluster]", "joblib": "mineonline[sweeps]",
    "optuna": "mineonline[sweeps]",
}  # fmt: skip
"""Choice of hydra/launcher or hydra/sweeper -> what brings it."""


def _explain_choice(file: str, options: Sequence[str]) -> str:
    group, _, choice = file.rpartition("/")
    known = sorted(option for option in options if option != "__init__")
    if group.startswith("hydra/") and choice in _PLUGINS:
        return f"{group}={choice}: not installed. Type  pip install '{_PLUGINS[choice]}'."
    hint = f" {suggestion}" if (suggestion := suggest_choice(group, choice, known)) else ""
    return f"{group}={choice}: there is no such {group}.{hint} There are: {', '.join(known)}."
