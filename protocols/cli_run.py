"""`labctl run` and `labctl resume`: protocols and sequences on a bench, with a progress bar and Ctrl-C as abort."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import labctl
from labctl.abort import AbortSignal
from labctl.errors import UsageError
from labctl.protocol import Protocol, discover, find

if TYPE_CHECKING:
    from labctl.sequence import Chain


class Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> Any:
        raise UsageError(f"{message} (see {self.prog} --help)")


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add run and resume."""
    running = command("run", _run, "run a protocol, or a sequence of them, and record it", add_help=False)
    running.add_argument("-h", "--help", action="store_true")
    running.add_argument("--sequence", type=Path, metavar="FILE.toml")
    _add_common(running)
    running.add_argument("name", nargs="?", help="protocol, or FILE.py:NAME")
    running.add_argument("rest", nargs=argparse.REMAINDER)

    resuming = command(
        "resume", _resume, "go on with a run or a sequence that was cut off, at its first unfinished cell"
    )
    resuming.add_argument("path", type=Path, metavar="FILE.h5|DIR", help="the run, or the folder of a sequence")
    resuming.add_argument("--bench", help="default: the station that was recorded")
    resuming.add_argument("--out", type=Path, metavar="FILE.h5", help="default: NAME-2.h5 beside the first")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bench", default="sim", help="built-in station, FILE.toml or recorded FILE.h5 (default sim)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random; recorded (default 0)")
    parser.add_argument("--out", type=Path, metavar="DIR|FILE.h5", help="default: a new file in this folder")
    parser.add_argument("--comment", default="", help="kept in the file")
    parser.add_argument("--tag", action="append", default=[], help="kept in the file; may be repeated")


def run_parser(protocol: Protocol) -> argparse.ArgumentParser:
    parser = Parser(
        prog=f"labctl run {protocol.name}",
        description=protocol.doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Numbers take SI prefixes (10u, 50m); lists take commas and ranges start:stop:step, both ends included.",
    )
    _add_common(parser)
    group = parser.add_argument_group("parameters")
    for parameter in protocol.parameters.values():
        group.add_argument(
            f"--{parameter.name.replace('_', '-')}",
            dest=f"p_{parameter.name}",
            metavar=parameter.q.unit or parameter.kind.__name__.upper(),
            help=f"{parameter.help()} (default {parameter.show(parameter.default)})".replace("%", "%%"),
        )
    return parser


USAGE = """usage: labctl run NAME [--bench sim|FILE.toml] [--seed N] [--out DIR|FILE.h5] [--PARAM VALUE …]
       labctl run --sequence FILE.toml [--bench …] [--seed N] [--out DIR]

labctl run NAME --help shows the parameters of:"""


def _run(options: argparse.Namespace) -> int:
    if options.sequence is not None:
        if options.name is not None:
            raise UsageError("give a protocol or --sequence FILE.toml, not both")
        return _run_sequence(options)
    if options.name is None:
        print(USAGE)
        print_list(list(discover().values()))
        return 0 if options.help else 2
    protocol = find(options.name)
    given = run_parser(protocol).parse_args(options.rest, options)
    texts = {name: getattr(given, f"p_{name}") for name in protocol.parameters}
    values: dict[str, Any] = {n: protocol.parameters[n].parse(text) for n, text in texts.items() if text is not None}
    values = protocol.check(values)
    with (
        labctl.open_bench(given.bench, seed=given.seed) as bench,
        _progress(protocol, values) as watch,
        _ctrl_c() as abort,
    ):
        try:
            run = labctl.run(
                protocol,
                bench,
                out=given.out,
                comment=given.comment,
                tags=given.tag,
                abort=abort,
                watch=watch,
                **values,
            )
        finally:
            if bench.offline:
                print(bench.offline.summary(), file=sys.stderr)
    print(run.path)
    return 0


def _run_sequence(options: argparse.Namespace) -> int:
    from labctl import sequence

    chain = sequence.read(options.sequence)
    folder = options.out or sequence.new_folder(options.sequence)
    with labctl.open_bench(options.bench, seed=options.seed) as bench:
        _chain(chain, bench, folder, comment=options.comment, tags=options.tag)
    return 0


def _chain(chain: "Chain", bench: Any, folder: Path, **more: Any) -> None:
    from labctl.sequence import Step, run_sequence

    with _ctrl_c() as abort, contextlib.ExitStack() as stack:

        def watch(step: Step) -> Callable[[Any, int], None]:
            stack.close()
            title = f"{step.number}/{len(chain.steps)} {step.protocol.name}"
            return stack.enter_context(_progress(step.protocol, step.values, title))

        for run in run_sequence(chain, bench, folder, abort=abort, watch=watch, **more):
            stack.close()
            print(run.path, flush=True)


def _resume(options: argparse.Namespace) -> int:
    from labctl import sequence
    from labctl.resume import where
    from labctl.runner import resume
    from labctl.station import parse_station

    path = options.path
    if path.is_dir():
        if not (path / sequence.COPY).exists():
            raise UsageError(f"{path} is no folder of a sequence: it has no {sequence.COPY}")
        recorded = sorted(path.glob("*.h5"))
        if not recorded:
            raise UsageError(f"{path} has no run yet; start it with labctl run --sequence {path / sequence.COPY}")
        first = labctl.load(recorded[0])
    else:
        first = labctl.load(path)
        where(first, find(first.protocol))  # says now what cannot be resumed
    station = options.bench or parse_station(first.header["station"]["text"], f"in {first.path}")
    with labctl.open_bench(station, seed=first.header["seed"]) as bench:
        if bench.is_new_chip:
            print("labctl: this simulated chip is new; the cells of the first part were on another", file=sys.stderr)
        if path.is_dir():
            _chain(sequence.read(path / sequence.COPY), bench, path)
            return 0
        protocol = find(first.protocol)
        with _progress(protocol, protocol.check(first.params)) as watch, _ctrl_c() as abort:
            run = resume(path, bench, out=options.out, abort=abort, watch=watch)
    print(run.path)
    return 0


@contextlib.contextmanager
def _ctrl_c() -> Iterator[AbortSignal]:
    """Ctrl-C as an abort; the second one does not wait for the board."""
    abort = AbortSignal()

    def on_interrupt(signum: int, frame: object) -> None:
        if abort.is_set:
            raise KeyboardInterrupt
        abort.set()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield abort
    finally:
        signal.signal(signal.SIGINT, before)


class _progress:
    """A progress bar on standard error while a run goes on; none where nobody looks."""

    def __init__(self, protocol: Protocol, values: dict[str, Any], title: str = "") -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(title or protocol.name, total=protocol.expected_rows(values))

    def __enter__(self) -> Callable[[Any, int], None]:
        self._bar.start()
        return lambda item, rows: self._bar.update(self._task, completed=rows)

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()


def print_list(protocols: list[Protocol]) -> None:
    """Each with the first line of what it does."""
    width = max(len(protocol.name) for protocol in protocols)
    for protocol in protocols:
        print(f"  {protocol.name:<{width}}  {protocol.doc.splitlines()[0]}")
