"""`python -m mineonline.evaluate checkpoint=<file>` plays complete episodes and prints their scores.

    python -m mineonline.evaluate checkpoint=runs/<...>/checkpoints/last.ckpt episodes=20 video=hunt.mp4
"""

from __future__ import annotations

import sys

from mineonline.errors import ConfigError
from mineonline.settings.arguments import EVALUATE_USAGE, EvaluateArguments
from mineonline.settings.command_line import parse_words, report_errors


def main() -> None:
    """Play, print, write."""
    arguments = parse_arguments(sys.argv[1:])
    from mineonline.run.evaluation import evaluate

    evaluate(arguments)


def parse_arguments(words: list[str]) -> EvaluateArguments:
    """ConfigError says which word cannot be used, and what may stand there."""
    arguments = parse_words(words, EvaluateArguments, EVALUATE_USAGE)
    if arguments.episodes < 1:
        raise ConfigError(f"episodes={arguments.episodes}: must be at least 1.")
    if arguments.video is not None and not arguments.video.endswith(".mp4"):
        raise ConfigError(f"video={arguments.video}: must end in .mp4.")
    return arguments


if __name__ == "__main__":
    report_errors(main)
