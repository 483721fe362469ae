"""The part of the command line for device models: fit, capacity."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import labctl
from labctl.errors import UsageError


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the subcommands with `command(name, act, text)`."""
    fitting = command(
        "fit", _fit, "learn a device model's parameters from recorded runs; a station names the file made"
    )
    fitting.add_argument(
        "model", choices=["generative", "filament"],
        help="generative: from iv_sweep and endurance runs of many cells; filament: from iv_sweep runs",
    )  # fmt: skip
    fitting.add_argument("file", type=Path, nargs="+", help="recorded or imported runs of one chip")
    fitting.add_argument("-o", "--output", type=Path, help="the parameter file (default MODEL.json)")
    fitting.add_argument("--like", type=Path, help="parameter file to start from (default: labctl's own)")
    fitting.add_argument(
        "--v-read", type=float, default=0.2, metavar="V", help="where resistances are read (default 0.2)"
    )
    fitting.add_argument("--order", type=int, help="generative: cycles that a cycle depends on (default up to 10)")
    fitting.add_argument("--components", type=int, help="generative: kinds of devices (default up to 3)")
    fitting.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")


def _fit(options: argparse.Namespace) -> None:
    output = options.output or Path(f"{options.model}.json")
    if output.exists():
        raise UsageError(f"{output} exists already; choose another name with -o")
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}; make it, or choose another with -o")
    runs = [labctl.load(path) for path in options.file]
    if options.model == "filament":
        if options.order is not None or options.components is not None:
            raise UsageError("--order and --components belong to the generative model; leave them out")
        from labctl.fitting_filament import fit_cell

        cell = fit_cell(runs, v_read=options.v_read, like=options.like)
        notes, text = cell.notes, str(cell)
        cell.save(output)
    else:
        from labctl.fitting import fit_chip
        from labctl.models.generative_params import load

        chip = fit_chip(
            runs, order=options.order, components=options.components, v_read=options.v_read, seed=options.seed,
            like=load(options.like) if options.like else None,
        )  # fmt: skip
        notes, text = chip.notes, str(chip.fit.goodness)
        chip.fit.params.save(output)
    print(text)
    for note in notes:
        print(f"  {note}", file=sys.stderr)
    print(output)
