"""Runs the commands and the Python of a page of the documentation, in order, in the present folder."""

import re
import shlex
from pathlib import Path
from typing import Any

from protocols.cli import main


def run_page(page: Path) -> dict[str, Any]:
    """The names that the page's Python leaves; each command must exit with 0."""
    names: dict[str, Any] = {}
    for kind, block in re.findall(r"```(python|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        if kind == "python":
            exec(compile(block, page.name, "exec"), names)
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "labctl"
            assert main(arguments) == 0, line
    return names
