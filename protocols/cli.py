"""The command line: `labctl`. Every option of `labctl run` is made from the protocol's own declaration."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import labctl
from labctl.errors import LabctlError, UsageError
from labctl.protocol import Protocol, discover, find
from labctl.quantity import Q, si
from protocols import cli_files, cli_models, cli_run
from protocols.cli_files import number
from protocols.cli_run import Parser, print_list, run_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 done, 1 failed, 2 wrong use, 3 bench, 130 aborted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        options = _parser().parse_args(arguments)
        return int(options.act(options) or 0)
    except LabctlError as error:
        if debug:
            raise
        print(f"labctl: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"labctl: {note}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("labctl: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `labctl show … | head`
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="labctl",
        description="Measure memristor-and-neuron chips: run protocols, look at recordings, re-execute them.",
        epilog="Exit codes: 0 done, 1 failed or differs, 2 wrong use, 3 bench failed, 130 aborted. --debug: traceback.",
    )
    parser.add_argument("--version", action="version", version=f"labctl {labctl.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)

    def command(
        name: str, act: Callable[[argparse.Namespace], int | None], text: str, **more: Any
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", **more)
        sub.set_defaults(act=act)
        return sub

    listing = command("protocols", _protocols, "list what can be run, with parameters, units, limits and columns")
    listing.add_argument("name", nargs="?", help="only this protocol")
    listing.add_argument("--json", action="store_true", help="for programs")

    cli_run.add_commands(command)

    showing = command("show", _show, "show what is in a recorded file")
    showing.add_argument("file", type=Path)
    showing.add_argument("--json", action="store_true", help="for programs")
    showing.add_argument("--rows", type=int, default=8, help="first rows to show of each table (default 8)")

    cli_files.add_commands(command)
    cli_models.add_commands(command)

    recovering = command("recover", _recover, "rebuild the file of a run that was killed, from its journal")
    recovering.add_argument("file", type=Path)

    plotting = command("plot", _plot, "draw a recorded run as a PNG")
    plotting.add_argument("file", type=Path)
    plotting.add_argument("-o", "--output", type=Path, help="default: the file's name with .png")

    reporting = command("report", _report, "measure everything that a paper shows and write one page about it")
    reporting.add_argument("what", choices=["lif"], help="lif: the neuron, Garg et al.")
    reporting.add_argument("--bench", default="sim", help="built-in station or FILE.toml (default sim)")
    reporting.add_argument("--seed", type=int, default=1, help="of the simulated chip (default 1)")
    reporting.add_argument("--out", type=Path, default=Path("lif-report"), help="folder for page and recordings")
    reporting.add_argument("--only", help="some of its runs, with commas: fig4a,fig4e")

    bench = command("bench", _bench_check, "look after the bench")
    bench.add_argument("what", choices=["check"], help="identities, firmware, calibration, limits, self-test")
    bench.add_argument("--bench", default="sim", help="built-in station or FILE.toml (default sim)")

    serving = command("sim", _sim, "serve the simulated bench to other programs")
    serving.add_argument("--bench", default="sim", help="station that describes the simulated chip (default sim)")
    serving.add_argument("--seed", type=int, default=0, help="of the simulated chip (default 0)")
    serving.add_argument("--board", metavar="ADDRESS", help="tcp://host:port (port 0: any) or pty")
    serving.add_argument(
        "--scope", metavar="DIALECT:ADDRESS", help="for instance keysight-infiniivision:tcp://127.0.0.1:5025"
    )
    return parser


# labctl protocols, show --------------------------------------------------------------------------------------------


def _protocols(options: argparse.Namespace) -> None:
    chosen = [find(options.name)] if options.name else list(discover().values())
    if options.json:
        print(json.dumps([_as_json(protocol) for protocol in chosen], indent=2, ensure_ascii=False))
    elif options.name:
        print(run_parser(chosen[0]).format_help())
        for table in chosen[0].tables:
            print(f"table {table.name}:")
            for column in table.columns:
                print(f"  {column.name:<12} {column.q.unit or '–':<6} {column.q.meaning}")
    else:
        print_list(chosen)
        print("\nlabctl protocols NAME shows one whole; labctl run NAME runs it.")


def _as_json(protocol: Protocol) -> dict[str, Any]:
    def quantity(q: Q) -> dict[str, Any]:
        limits = {"low": q.low, "high": q.high}
        return {"unit": q.unit, "meaning": q.meaning, **{k: v for k, v in limits.items() if math.isfinite(v)}}

    return {
        "name": protocol.name,
        "doc": protocol.doc,
        "parameters": {
            p.name: {
                "type": p.kind.__name__,
                "list": p.many,
                "default": list(p.default) if isinstance(p.default, tuple) else p.default,
                **({"choices": list(p.choices)} if p.choices else {}),
                **quantity(p.q),
            }
            for p in protocol.parameters.values()
        },
        "tables": {
            table.name: {column.name: {"type": column.kind.__name__, **quantity(column.q)} for column in table.columns}
            for table in protocol.tables
        },
    }


def _show(options: argparse.Namespace) -> None:
    run = labctl.load(options.file)
    tables = {name: run.table(name) for name in run.tables}
    counts = {name: len(next(iter(columns.values()))) for name, columns in tables.items()}
    traces = {name: run.trace_count(name) for name in run.traces}
    header = run.header
    if options.json:
        first = {
            name: {column: _plain(values[: options.rows]) for column, values in columns.items()}
            for name, columns in tables.items()
        }
        print(
            json.dumps(
                {
                    "file": str(run.path), "status": run.status, "protocol": run.protocol, "params": run.params,
                    "param_units": header["param_units"], "seed": header["seed"], "created": header["created"],
                    "station": header["station"]["name"], "comment": run.comment, "tags": run.tags,
                    "tables": {
                        name: {"rows": counts[name], "units": run.units(name), "first": first[name]} for name in tables
                    },
                    "traces": traces, "versions": header["versions"],
                },
                indent=2, ensure_ascii=False,
            )
        )  # fmt: skip
        return
    print(f"{run.path}: {run.protocol}, {run.status}")
    print(f"  {header['created']}, station {header['station']['name']}, seed {header['seed']}", end="")
    print(f", {run.comment}" if run.comment else "")
    for end in (data for name, data in run.events() if name == "end" and "error" in data):
        print(f"  ended by {end['error']}")
    print("parameters:")
    for name, value in run.params.items():
        unit = header["param_units"].get(name, "")
        shown = ", ".join(number(item, unit) for item in (value if isinstance(value, list | tuple) else [value]))
        print(f"  {name} = {shown}")
    for name, columns in tables.items():
        units = run.units(name)
        print(f"table {name}: {counts[name]} rows")
        heads = [f"{column} ({units[column]})" if units[column] else column for column in columns]
        body = [
            [number(values[k], units[column]) for column, values in columns.items()]
            for k in range(min(options.rows, counts[name]))
        ]
        widths = [max(map(len, cells)) for cells in zip(heads, *body, strict=True)]
        for line in [heads, *body]:
            print("  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))
    for name, count in traces.items():
        trace = run.trace(name, 0)
        print(f"trace {name}: {count} × {len(trace.codes)} samples, {si(trace.dt, 's')} apart, in {trace.unit}")


def _plain(values: Any) -> list[Any]:
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values.tolist()]


# labctl recover, plot, bench, sim -------- ----------------------------------------------------------------------------


def _recover(options: argparse.Namespace) -> None:
    from labctl.recover import recover

    print(recover(options.file))


def _plot(options: argparse.Namespace) -> None:
    from labctl.plot import plot

    print(plot(labctl.load(options.file), options.output or options.file.with_suffix(".png")))


def _report(options: argparse.Namespace) -> None:
    from labctl.report_lif import JOBS, report

    jobs = options.only.split(",") if options.only else list(JOBS)
    print(report(options.bench, options.out, seed=options.seed, jobs=jobs, tell=lambda text: print(text, flush=True)))


def _bench_check(options: argparse.Namespace) -> int:
    with labctl.open_bench(options.bench) as bench:
        failed = False
        for name, finding, good in bench.self_check():
            failed = failed or not good
            print(f"{'ok  ' if good else 'FAIL'}  {name}: {finding}")
    return 3 if failed else 0


def _sim(options: argparse.Namespace) -> None:
    from drivers.simulation import Simulation
    from labctl.station import load_station

    if not (options.board or options.scope):
        raise UsageError("nothing to serve; give --board ADDRESS, --scope DIALECT:ADDRESS or both")
    simulation = Simulation(load_station(options.bench), options.seed)
    try:
        for name, address in simulation.serve(options.board, options.scope).items():
            print(f"{name}: {address}", flush=True)
        print("serving; Ctrl-C ends it", flush=True)
        simulation.wait()
    except KeyboardInterrupt:
        print("ended", flush=True)
    finally:
        simulation.close()


if __name__ == "__main__":
    sys.exit(main())
