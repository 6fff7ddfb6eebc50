"""`mineonline <command> ...` and `python -m mineonline <command> ...` are `python -m mineonline.<command> ...`.

`eval "$(mineonline -sc install=bash)"` makes the shell complete commands, and the groups, choices and keys of `train`.
"""

from __future__ import annotations

import difflib
import os
import sys

COMMANDS = {
    "train": "train an agent",
    "collect": "add a collector to a run, or record what a checkpoint plays",
    "relay": "pass both paths on for the collectors of a node",
    "evaluate": "score and film checkpoints",
    "play": "play in the browser, against an agent, and look at a run",
    "plot": "draw the curves of runs",
    "publish": "write a policy for others to use",
    "replay": "look at fragments that broke learning",
    "export": "write a VPT policy as MineStudio's files",
    "metrics": "show every number that a run logs",
    "doctor": "show what this machine can run, and what to type for the rest",
}
_USAGE = "\n".join(
    ["usage: mineonline <command> [key=value ...]", "", *(f"  {name:10}{text}" for name, text in COMMANDS.items())]
)


def main() -> None:
    """Replace this process with the command, so that both spellings run the same process."""
    words = sys.argv[1:]
    if words and words[0] in COMMANDS:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", f"mineonline.{words[0]}", *words[1:]])
    if words[:1] == ["-sc"] and words[1:2] and words[1].startswith(("install=", "uninstall=", "query=")):
        _complete(words)
    elif words[:1] == ["--version"]:
        from mineonline import __version__

        print(f"mineonline {__version__}")
    elif not words or words[0] in ("-h", "--help"):
        print(_USAGE + "\n\n`mineonline <command> --help` shows its arguments.")
    else:
        close = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"\n{_USAGE}"
        sys.exit(f"error: {words[0]}: there is no such command. {hint}")


def _complete(words: list[str]) -> None:
    """Hydra's shell completion. It knows no subcommands, so it sees `train` as if that were the program itself."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()
    if any(word.startswith("query=") for word in words):
        if len(typed) < 2 or (len(typed) == 2 and not line.endswith(" ")):
            print(" ".join(COMMANDS))
            return
        if typed[1] != "train":
            return
        os.environ["COMP_LINE"] = line.replace(" train", "", 1)
    from mineonline.settings.command_line import run_hydra

    sys.argv[0] = "mineonline"
    run_hydra(words, lambda settings, overrides: None)


if __name__ == "__main__":
    main()
