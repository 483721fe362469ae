"""The part of the command line for recorded files: ls, replay, import, export."""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import labctl
from labctl.errors import StorageError, UsageError
from labctl.quantity import si

SHOWN = 40
"""Changes that are printed; --json gives all."""


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the subcommands with `command(name, act, text)`."""
    listing = command("ls", _ls, "list the runs under a folder")
    listing.add_argument("folder", nargs="?", type=Path, default=Path("."))
    listing.add_argument("--protocol", default="*", help="a name, or a pattern such as 'lif_*'")
    listing.add_argument("--chip", default="*", help="name or pattern")
    listing.add_argument("--status", default="*", help="done, aborted, failed, recovered, running, interrupted")
    listing.add_argument("--since", metavar="DATE", help="recorded then or later, as in 2026-11-23")
    listing.add_argument("--tag", action="append", default=[], help="has this tag; may be repeated")
    listing.add_argument("--json", action="store_true", help="for programs")

    replaying = command("replay", _replay, "play a recorded run back, or re-execute it")
    replaying.add_argument("file", type=Path)
    replaying.add_argument("--verify", action="store_true", help="re-execute: exit 0 when identical, 1 at a difference")
    replaying.add_argument("--with", dest="module", metavar="MODULE.py[:NAME]", help="re-execute with changed code")
    replaying.add_argument("--speed", type=_speed, default=1.0, help="of the playback (default 1; inf: all at once)")
    replaying.add_argument("--from", dest="begin", type=float, default=0.0, metavar="S", help="begin there, in s")
    replaying.add_argument("--loop", action="store_true", help="begin again at the end")
    replaying.add_argument("--json", action="store_true", help="for programs: one object a line")

    importing = command("import", _import, "make a run of a file of another instrument or program")
    importing.add_argument("file", type=Path)
    importing.add_argument("-o", "--output", type=Path, help="default: the file's name with .h5")
    importing.add_argument("--as", dest="format", default="auto", help="arc1, arc2, table, scope (default: by content)")
    importing.add_argument(
        "--column", action="append", default=[], metavar="NAME=[-]COLUMN[:UNIT]",
        help="of a table: v=Bias:mV, i=-3:uA, cell=Device …; may be repeated",
    )  # fmt: skip
    importing.add_argument("--decimal", choices=[".", ","], help="decimal mark of a table (default: by content)")
    importing.add_argument("--skip-bad", action="store_true", help="keep lines that cannot be read as text, and go on")
    importing.add_argument("--comment", default="", help="kept in the file")
    importing.add_argument("--tag", action="append", default=[], help="kept in the file; may be repeated")

    exporting = command("export", _export, "write a recorded run, or a station's simulated chip, for other programs")
    exporting.add_argument("file", type=Path, help="recorded run; to spice also a station: built-in or FILE.toml")
    exporting.add_argument(
        "--to", required=True, metavar="FORMAT",
        help="csv, parquet, nwb, zip for publication, or spice: cells as measured, or chip with its present state",
    )  # fmt: skip
    exporting.add_argument("--seed", type=int, default=0, help="of a station's chip that no file keeps (default 0)")
    exporting.add_argument("-o", "--output", type=Path, help="default: the file's name with the format's ending")


def number(value: Any, unit: str) -> str:
    """A value as a person reads it, with prefix and unit."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return si(value, unit, 5)
    return f"{value} {unit}".strip()


def table(heads: list[str], body: list[list[str]], right: bool = True) -> None:
    """Print lines in columns."""
    widths = [max(map(len, cells)) for cells in zip(heads, *body, strict=True)]
    for line in [heads, *body]:
        cells = (f"{cell:>{w}}" if right else f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True))
        print(("  " + "  ".join(cells)).rstrip())


def _speed(text: str) -> float:
    speed = float(text)
    if not speed > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return speed


def _ls(options: argparse.Namespace) -> None:
    from labctl.catalogue import catalogue

    found = catalogue(
        options.folder, protocol=options.protocol, chip=options.chip, status=options.status, since=options.since,
        tags=options.tag,
    )  # fmt: skip
    if options.json:
        print(json.dumps([asdict(entry) for entry in found], indent=2, ensure_ascii=False))
        return
    if found:
        body = [
            [
                entry.created[:16].replace("T", " "), entry.status, entry.protocol,
                "" if entry.rows is None else str(entry.rows), entry.chip or entry.station, entry.cells,
                " ".join(f"#{tag}" for tag in entry.tags), entry.path, entry.comment or entry.problem,
            ]
            for entry in found
        ]  # fmt: skip
        table(["recorded", "status", "protocol", "rows", "chip", "cells", "tags", "file", "comment"], body, right=False)
    print(f"{len(found)} runs" if len(found) != 1 else "1 run")


def _replay(options: argparse.Namespace) -> int:
    if options.module:
        return _changes(options)
    if options.verify:
        from labctl.replay import verify

        same = verify(options.file)
        print(f"identical: {same.rows} rows, {same.traces} traces, {same.transactions} transactions")
        return 0
    run = labctl.load(options.file)
    playback = run.playback(options.speed, loop=options.loop)
    if options.begin:
        playback.seek(options.begin)
    units = {run.row_type(name): (name, run.units(name)) for name in run.tables}
    for event in playback:
        name, values = _described(event.item, units)
        if options.json:
            plain = {key: _plain(value) for key, (value, _) in values.items()}
            line = {"t": event.t, "rows": event.rows, "what": name, "values": plain}
            print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            shown = "  ".join(f"{key} = {number(value, unit)}" for key, (value, unit) in values.items())
            print(f"{event.t:10.3f} s  {name}: {shown}", flush=True)
    return 0


def _described(item: Any, units: dict[type, tuple[str, dict[str, str]]]) -> tuple[str, dict[str, tuple[Any, str]]]:
    """What an item of a playback is called, and its values with units."""
    if isinstance(item, labctl.Trace):
        about = {"samples": (len(item.codes), ""), "t0": (item.t0, "s"), "dt": (item.dt, "s")}
        if len(item.codes):
            about |= {"low": (float(item.values.min()), item.unit), "high": (float(item.values.max()), item.unit)}
        return f"trace {item.name}", about
    if isinstance(item, labctl.Rows):
        name, of = units[item.row]
        first = {key: (values[0].item() if hasattr(values[0], "item") else values[0], of[key])
                 for key, values in item.columns.items()}  # fmt: skip
        return f"{name} ({len(item)} rows, the first)", first
    if type(item) in units:
        name, of = units[type(item)]
        return name, {key: (value, of[key]) for key, value in item._asdict().items()}
    return f"event {item.name}", {key: (value, "") for key, value in item.data.items()}


def _changes(options: argparse.Namespace) -> int:
    from labctl.changes import with_module

    result = with_module(options.file, options.module)
    if options.json:
        print(json.dumps(_plain(asdict(result)), indent=2, ensure_ascii=False))
        return 1 if result.found or result.columns else 0
    if result.dropped:
        print(f"recorded parameters that it does not take: {', '.join(result.dropped)}")
    if result.added:
        print(f"new parameters, at their defaults: {', '.join(result.added)}")
    if result.stopped:
        print(f"ended early: {result.stopped}")
    if result.columns:
        print("\n".join(f"columns of {line}" for line in result.columns))
    if not result.found:
        print(f"identical: {result.compared} rows" + (" in the columns that both have" if result.columns else ""))
        return 1 if result.columns else 0
    body = [[c.table, str(c.row), c.column, _text(c.before), _text(c.after)] for c in result.found[:SHOWN]]
    table(["table", "row", "column", "before", "after"], body)
    if len(result.found) > SHOWN:
        print(f"  … and {len(result.found) - SHOWN} more changes (--json gives all)")
    print(f"{result.rows} rows change; {result.compared} were compared")
    return 1


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "a row"
    return repr(value) if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """As JSON has it: null for what is not finite, as in `labctl show --json`."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _import(options: argparse.Namespace) -> None:
    from labctl.importing import import_file

    more: dict[str, Any] = {"columns": options.column} if options.column else {}
    if options.decimal:
        if options.format not in ("auto", "table"):
            raise UsageError(f"--decimal is for tables, not for {options.format}")
        more["decimal"] = options.decimal
    run = import_file(
        options.file, options.output, format=options.format, skip_bad=options.skip_bad, comment=options.comment,
        tags=tuple(options.tag), **more,
    )  # fmt: skip
    source = run.header["source"]
    for name, place in source["notes"].get("columns", {}).items():
        print(f"  {name} ({run.units().get(name, '') or '–'}): {place}", file=sys.stderr)
    for name in run.tables:
        print(f"  table {name}: {run.row_count(name)} rows", file=sys.stderr)
    for name in run.traces:
        print(f"  trace {name}: {run.trace_count(name)}", file=sys.stderr)
    if source["bad_lines"]:
        bad = run.table("bad_line")
        for line, reason in list(zip(bad["line"].tolist(), bad["reason"].tolist(), strict=True))[:SHOWN]:
            print(f"  left out: line {line}: {reason}", file=sys.stderr)
        print(f"  {source['bad_lines']} bad lines are kept as text in table bad_line", file=sys.stderr)
    for what, why in source["left_out"].items():
        print(f"  left out: {what}: {why}", file=sys.stderr)
    print(run.path)


def _export(options: argparse.Namespace) -> None:
    from labctl.exporting import export

    if options.to == "spice" and options.file.suffix != ".h5":
        from drivers.simulated_chip import circuit
        from labctl.station import load_station

        station = load_station(str(options.file))
        text, output = circuit(station, options.seed), options.output or Path(f"{station.name}.cir")
        try:
            with output.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise StorageError(f"{output} exists already; choose another name with -o") from None
        except OSError as error:
            raise StorageError(f"{output} cannot be written ({error.strerror}); choose another with -o") from error
        print(output)
        return
    for path in export(labctl.load(options.file), options.to, options.output):
        print(path)
