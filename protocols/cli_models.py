"""The part of the command line for device models: fit, capacity."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import labctl
from labctl.errors import UsageError
from labctl.quantity import parse as parse_number


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
        "--v-read", type=_number, default=0.2, metavar="V", help="where resistances are read (default 0.2)"
    )
    fitting.add_argument("--order", type=int, help="generative: cycles that a cycle depends on (default up to 10)")
    fitting.add_argument("--components", type=int, help="generative: kinds of devices (default up to 3)")
    fitting.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")

    sizing = command("capacity", _capacity, "what a network takes on a station: crossbars, neurons, energy, time")
    sizing.add_argument("layers", help="neurons of each layer, input first: 784,100,10")
    sizing.add_argument("--bench", default="sim", help="built-in station or FILE.toml (default sim)")
    sizing.add_argument("--measured", type=Path, metavar="FILE", help="a run of read_map: the mean conductance")
    sizing.add_argument("--window", type=_number, default=0.35, metavar="S", help="time of an inference (default 350m)")
    sizing.add_argument("--rates", default="20", metavar="HZ", help="mean spike rate, or one a layer (default 20)")
    sizing.add_argument("--cells-per-weight", type=int, default=2, help="2: signed weights, as differences (default 2)")
    sizing.add_argument("--chips", type=int, default=1, help="crossbars that work side by side (default 1)")
    sizing.add_argument("--pulses", type=float, default=20.0, help="write pulses a cell takes (default 20)")
    sizing.add_argument("--seed", type=int, default=0, help="of a simulated chip that no file keeps (default 0)")
    sizing.add_argument("--json", action="store_true", help="for programs")


def _number(text: str) -> float:
    try:
        return parse_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _capacity(options: argparse.Namespace) -> None:
    from drivers.hardware import hardware_of
    from labctl.models.capacity import Network, capacity, table
    from labctl.station import load_station

    try:
        sizes = tuple(int(part) for part in options.layers.split(","))
        rates = tuple(parse_number(part) for part in options.rates.split(","))
    except (ValueError, UsageError) as error:
        raise UsageError(
            f"layers {options.layers!r} at {options.rates!r} Hz are no numbers; give 784,100,10 and 20 or 20,10,5"
        ) from error
    measured = labctl.load(options.measured) if options.measured else None
    network = Network(
        sizes, window=options.window, rates=rates[0] if len(rates) == 1 else rates,
        cells_per_weight=options.cells_per_weight,
    )  # fmt: skip
    hardware, notes = hardware_of(
        load_station(options.bench), measured=measured, seed=options.seed, chips=options.chips, pulses=options.pulses
    )
    lines = capacity(hardware, network)
    if options.json:
        plain = [{**line._asdict(), "value": None if line.value != line.value else line.value} for line in lines]
        print(json.dumps({"lines": plain, "notes": notes}, indent=2, ensure_ascii=False))
        return
    print(table(lines))
    print("\n".join(f"  {note}" for note in notes))
    print("  periphery: SPICE figures of Garg et al.; nothing here was measured on a chip")


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
