"""`python -m mineonline.export checkpoint=<file> model=<file> weights=<file>` goes back to MineStudio.

Writes the `.model` and the `.weights` file of a policy that was trained with policy=vpt, for MineStudio's
`load_vpt_policy(model, weights)`: the same logits, and the same values in units of reward.
"""

from __future__ import annotations

import sys

from mineonline.settings.arguments import EXPORT_USAGE, ExportArguments
from mineonline.settings.command_line import parse_words, report_errors


def main() -> None:
    """Export what the command line names."""
    arguments = parse_words(sys.argv[1:], ExportArguments, EXPORT_USAGE)
    from mineonline.run.export import export

    export(arguments)


if __name__ == "__main__":
    report_errors(main)
