"""Sphinx: this repository's pages as a site. They are written to be read on a code host as well.

    sphinx-build -W -c docs . build/docs

The navigation is the list in README.md under "Where to read on": a page is added there, and nowhere else.
"""

from __future__ import annotations

import posixpath
import re

from sphinx.application import Sphinx

project = "mineonline"
extensions = ["myst_parser"]
myst_heading_anchors = 4
root_doc = "README"
include_patterns = ["*.md", "docs/*.md"]
exclude_patterns = [".*", "build", "runs", "tests"]
highlight_language = "none"
html_theme = "furo"
html_title = "mineonline"
html_extra_path = ["index.html"]

_CODE_HOST = "https://github.com/mineonline/mineonline/blob/main/"
_PAGES_AND_PICTURES = (".md", ".webp", ".png")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _prepare)


def _prepare(app: Sphinx, docname: str, source: list[str]) -> None:
    """Point links to files that are no pages to the code host, and give the front its navigation."""

    def linked(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(docname), match[1]))
        return match[0] if match[1].endswith(_PAGES_AND_PICTURES) else f"]({_CODE_HOST}{target})"

    front = docname == root_doc
    contents = source[0].partition("## Where to read on")[2] if front else ""
    source[0] = re.sub(r"\]\(([^):#]+)\)", linked, source[0])
    for caption, links in re.findall(r"^- \*\*(.+)\*\*: (.+)$", contents, re.MULTILINE):
        pages = [
            f"{title} <{path if path.endswith('.md') else _CODE_HOST + path}>"
            for title, path in re.findall(r"\[([^]]+)\]\(([^)]+)\)", links)
        ]
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])
