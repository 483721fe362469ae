"""A chain of protocols with loops over cells and parameters, from a TOML file; resumable where it was cut off.

    [parameters]                          # of every step that has them
    v_read = 0.2
    [[step]]
    protocol = "forming"
    rows = "0:3:1"                        # numbers, lists, or text as on the command line
    [[step]]
    for = { row = "0:3:1", column = [0, 1] }   # loops, the first one outermost
    step = [{ protocol = "iv_sweep", cycles = 3 }, { protocol = "endurance", cycles = 1000 }]

Every step is a run with a file of its own, numbered in the order they are run, in one folder with a copy of the TOML
file. A step whose file is done is left out the next time; one that was cut off is resumed at its first unfinished cell.
"""

import contextlib
import itertools
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labctl.abort import AbortSignal
from labctl.errors import LabctlError, ParameterError, StorageError, UsageError
from labctl.protocol import Protocol, Value, find
from labctl.reader import Run, load
from labctl.resume import NothingFinished
from labctl.runner import BenchLike, Watcher, resume, run

COPY = "sequence.toml"


@dataclass(frozen=True)
class Step:
    """One run of the chain: its number from 1, the protocol, its parameters, and the values of the loops around it."""

    number: int
    protocol: Protocol
    values: dict[str, Value]
    loops: dict[str, object]

    @property
    def name(self) -> str:
        """Number, protocol and loop values: the stem of its file."""
        around = "".join(f"_{key}{_word(value)}" for key, value in self.loops.items())
        return f"{self.number:03d}_{self.protocol.name}{around}"


@dataclass(frozen=True)
class Chain:
    """A checked sequence: nothing in it is unknown or out of limits."""

    text: str
    comment: str
    tags: tuple[str, ...]
    steps: tuple[Step, ...]


def read(path: str | Path) -> Chain:
    """The sequence in a file, checked whole; raises `UsageError` that names the step."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"sequence {path} cannot be read ({error})") from error
    unknown = set(data) - {"comment", "tags", "parameters", "step"}
    if unknown:
        raise UsageError(
            f"sequence {path}: {sorted(unknown)[0]} is not known; there are comment, tags, parameters, step"
        )
    known: dict[str, Protocol] = {}
    common = data.get("parameters", {})
    found = [*_flatten(data.get("step", []), {}, f"sequence {path}", known)]
    if not found:
        raise UsageError(f"sequence {path} has no [[step]]")
    unused = [name for name in common if not any(name in item[0].parameters for item in found)]
    if unused:
        raise UsageError(f"sequence {path}: no step has the parameter {unused[0]!r} of [parameters]")
    steps = []
    for number, (protocol, own, loops, where) in enumerate(found, 1):
        given = {name: value for name, value in common.items() if name in protocol.parameters} | own
        steps.append(Step(number, protocol, _checked(protocol, given, where), loops))
    return Chain(text, str(data.get("comment", "")), tuple(data.get("tags", ())), tuple(steps))


def run_sequence(
    sequence: Chain,
    bench: BenchLike,
    folder: Path,
    *,
    comment: str = "",
    tags: Sequence[str] = (),
    abort: AbortSignal | None = None,
    watch: Callable[[Step], Watcher] | None = None,
) -> Iterator[Run]:
    """Run what is not done yet, in order; yields each step's run when it is done.

    watch: makes the watcher of a step's rows. An error ends the sequence; what is done stays done.
    """
    copy = folder / COPY
    if copy.exists() and copy.read_text(encoding="utf-8") != sequence.text:
        raise UsageError(f"{folder} holds the runs of another sequence (its {COPY} differs); choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        copy.write_text(sequence.text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"folder {folder} cannot be written ({error})") from error
    for step in sequence.steps:
        before = _runs(folder, step)
        if done := next((item for item in before if item.status == "done"), None):
            yield done
            continue
        said = {"comment": comment or sequence.comment, "tags": (*sequence.tags, *tags)}
        more: dict[str, Any] = {"abort": abort, "watch": watch(step) if watch else None}
        try:
            yield _go_on(step, bench, folder, before, said, more)
        except LabctlError as error:
            error.add_note(
                f"step {step.number} of {len(sequence.steps)}, {step.name}; go on with: labctl resume {folder}"
            )
            raise


def new_folder(path: str | Path) -> Path:
    """A free name for the runs of a sequence file, in this folder."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path.cwd() / f"{stamp}_{Path(path).stem}"


def _go_on(
    step: Step, bench: BenchLike, folder: Path, before: list[Run], said: dict[str, Any], more: dict[str, Any]
) -> Run:
    if before:
        with contextlib.suppress(NothingFinished):
            return resume(before[-1].path, bench, protocol=step.protocol, **more)
    number = len(before) + 1
    out = folder / (f"{step.name}.h5" if number == 1 else f"{step.name}-{number}.h5")
    every: dict[str, Any] = {**said, **more, **step.values}
    return run(step.protocol, bench, out=out, **every)


def _runs(folder: Path, step: Step) -> list[Run]:
    names = {path.name.removesuffix(".journal") for path in folder.glob(f"{step.number:03d}_*.h5*")}
    return [load(folder / name) for name in sorted(names, key=lambda name: (len(name), name)) if name.endswith(".h5")]


def _flatten(
    entries: Any, loops: dict[str, object], where: str, known: dict[str, Protocol]
) -> Iterator[tuple[Protocol, dict[str, object], dict[str, object], str]]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{where}: steps are tables, [[step]]")
    for number, entry in enumerate(entries, 1):
        here = f"{where}, step {number}"
        own = dict(entry)
        around = own.pop("for", {})
        if not isinstance(around, dict):
            raise UsageError(f'{here}: for = {around!r} is no table of lists, such as {{ row = "0:3:1" }}')
        inner = own.pop("step", None)
        name = own.pop("protocol", None)
        if (inner is None) == (name is None):
            raise UsageError(f"{here} needs a protocol, or step = [...] of its own")
        for values in itertools.product(*(_many(value, f"{here}: for {key}") for key, value in around.items())):
            inside = loops | dict(zip(around, values, strict=True))
            if inner is not None:
                if own:
                    raise UsageError(f"{here}: {next(iter(own))} belongs to one of its steps")
                yield from _flatten(inner, inside, here, known)
                continue
            protocol = known[name] if name in known else known.setdefault(name, find(name))
            taken = {key: value for key, value in inside.items() if key in protocol.parameters}
            strange = [key for key in around if key not in protocol.parameters]
            if strange:
                raise UsageError(f"{here}: {protocol.name} has no parameter {strange[0]!r} to loop over")
            yield protocol, taken | own, inside, here


def _many(value: object, where: str) -> list[object]:
    if isinstance(value, list) and value:
        return value
    if isinstance(value, str):
        from labctl.quantity import parse_list

        return [int(number) if number == int(number) else number for number in parse_list(value, "")]
    raise UsageError(f'{where} = {value!r} is neither a list nor text such as "0:3:1"')


def _checked(protocol: Protocol, given: Mapping[str, object], where: str) -> dict[str, Value]:
    try:
        parsed = {
            name: protocol.parameters[name].parse(value)
            if isinstance(value, str) and name in protocol.parameters
            else value
            for name, value in given.items()
        }
        return protocol.check(parsed)
    except ParameterError as error:
        raise UsageError(f"{where}: {error}") from None


def _word(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(c if c.isalnum() or c in "+-." else "_" for c in text)
