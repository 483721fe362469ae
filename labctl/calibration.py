"""Calibrations of a chip's neurons: what was found, how well it holds, and which bias gives what is asked.

A calibration is made from a recorded run of `lif_calibrate` and kept as a JSON file, named by a key of what it belongs
to (chip, board, station) so that a later run finds it again. Broken neurons are in it with their verdict; asking one
of them for anything raises `MeasurementError`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from labctl.analysis.neurons import NeuronLaw
from labctl.errors import MeasurementError, StorageError, UsageError
from labctl.reader import Run, load
from labctl.station import Station

FORMAT = 1
"""Version of the file; another one is refused."""
_LAW = tuple(field.name for field in fields(NeuronLaw) if field.name not in ("i_syn", "slew", "u_t"))


@dataclass(frozen=True)
class NeuronCalibration:
    """One neuron: verdict ("ok", or what is wrong), its law (None where broken), rms relative residual of the law's
    periods, and relative charge jitter of a read pulse."""

    neuron: int
    verdict: str
    law: NeuronLaw | None = None
    residual: float = float("nan")
    jitter: float = float("nan")


@dataclass(frozen=True)
class Calibration:
    """All neurons of one chip; `biases` are those in force where a request names no other (V)."""

    chip: str
    key: str
    date: str
    source: str
    biases: Mapping[str, float]
    neurons: tuple[NeuronCalibration, ...]

    @property
    def ok(self) -> dict[int, bool]:
        """The success mask: neuron → whether its calibration may be used."""
        return {item.neuron: item.verdict == "ok" for item in self.neurons}

    def law(self, neuron: int) -> NeuronLaw:
        """What is known of a neuron; raises `UsageError` for one not in it, `MeasurementError` for a broken one."""
        for item in self.neurons:
            if item.neuron == neuron:
                if item.law is None or item.verdict != "ok":
                    raise MeasurementError(f"neuron {neuron} of {self.chip} is {item.verdict}; take another one")
                return item.law
        known = ", ".join(str(item.neuron) for item in self.neurons)
        raise UsageError(f"neuron {neuron} is not in the calibration of {self.chip}; it has {known}")

    def v_thr(self, neuron: int, rate: float, i_syn: float, **biases: float) -> float:
        """The threshold bias (V) with which the neuron fires at `rate` Hz at `i_syn` A; raises `ParameterError`."""
        return self.law(neuron).v_thr_for_rate(rate, i_syn, {**self.biases, **biases})

    def i_syn(self, neuron: int, rate: float, **biases: float) -> float:
        """The current (A) with which the neuron fires at `rate` Hz; raises `ParameterError`."""
        return self.law(neuron).i_syn_for_rate(rate, {**self.biases, **biases})

    def v_pw(self, neuron: int, width: float) -> float:
        """The bias V_pw (V) that makes output pulses of `width` s; raises `ParameterError`."""
        return self.law(neuron).v_pw_for_width(width)

    def v_taun(self, neuron: int, leak_time: float, **biases: float) -> float:
        """The bias V_taun (V) that lets the membrane fall from V_thr to V_rest + 20 mV within `leak_time` s."""
        at = {**self.biases, **biases}
        return self.law(neuron).v_taun_for_leak(leak_time, at["v_thr"], at["v_rest"])

    def save(self, path: str | Path) -> Path:
        """Write the file; raises `StorageError`. An existing one is replaced as a whole."""
        path = Path(path)
        data = {"format": FORMAT, **asdict(self)}
        temporary = path.with_name(path.name + ".new")
        try:
            temporary.write_text(json.dumps(data, indent=1, allow_nan=True), encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise StorageError(f"calibration {path} cannot be written ({error})") from error
        return path


def key_of(station: Station, board: str) -> str:
    """What a calibration belongs to, in 16 hex digits: the chip, how it is wired, and the board that measured it."""
    chip = station.chip
    parts = [chip.name, chip.neurons, chip.r_syn, sorted(station.converters.items()), board]
    return sha256(json.dumps(parts).encode()).hexdigest()[:16]


def from_run(run: Run) -> Calibration:
    """The calibration that a recorded `lif_calibrate` found; raises `UsageError` for a run of something else."""
    if run.protocol != "lif_calibrate":
        raise UsageError(f"{run.path} is a run of {run.protocol}; calibrations come from lif_calibrate")
    from labctl.station import parse_station

    station = parse_station(run.header["station"]["text"], f"in {run.path}")
    board = next((str(data.get("board", "")) for name, data in run.events() if name == "identities"), "")
    neurons, slews = (_as_rows(run.table(name)) for name in ("neuron", "slew"))
    v_ref, date, source = float(run.params["v_ref"]), str(run.header["created"]), Path(run.path).name
    return assemble(station, board, neurons, slews, v_ref, date, source)


def assemble(
    station: Station,
    board: str,
    neurons: Iterable[Mapping[str, Any]],
    slews: Iterable[Mapping[str, Any]],
    v_ref: float,
    date: str = "",
    source: str = "",
) -> Calibration:
    """The calibration in the rows of `lif_calibrate`'s tables neuron and slew; v_ref: the LDO reference (V) used."""
    curves: dict[int, list[tuple[float, float]]] = {}
    for row in slews:
        curves.setdefault(int(row["neuron"]), []).append((float(row["i_syn"]), float(row["slew"])))
    found = []
    for row in neurons:
        number, law = int(row["neuron"]), None
        if number in curves:
            i_syn, slew = zip(*curves[number], strict=True)
            law = NeuronLaw(i_syn, slew, **{name: float(row[name]) for name in _LAW})
        found.append(NeuronCalibration(number, str(row["verdict"]), law, float(row["residual"]), float(row["jitter"])))
    biases = {**station.biases, "v_ref": v_ref}
    return Calibration(station.chip.name, key_of(station, board), date, source, biases, tuple(found))


def _as_rows(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for values in zip(*table.values(), strict=True):
        yield dict(zip(table, values, strict=True))


def read(path: str | Path) -> Calibration:
    """A calibration from its file, or from a recorded run of `lif_calibrate` (.h5); raises `StorageError`."""
    path = Path(path)
    if path.suffix == ".h5":
        return from_run(load(path))
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"calibration {path} cannot be read ({error}); run lif_calibrate again") from error
    if data.pop("format", None) != FORMAT:
        raise StorageError(f"{path} is no calibration of format {FORMAT}; run lif_calibrate again")
    try:
        neurons = []
        for item in data.pop("neurons"):
            law = item.pop("law")
            if law is not None:
                law = NeuronLaw(**{**law, "i_syn": tuple(law["i_syn"]), "slew": tuple(law["slew"])})
            neurons.append(NeuronCalibration(**item, law=law))
        return Calibration(**data, neurons=tuple(neurons))
    except (TypeError, KeyError) as error:
        raise StorageError(f"{path} is damaged ({error}); run lif_calibrate again") from error


def cached(folder: str | Path, key: str) -> Calibration | None:
    """The calibration kept in `folder` under that key, or None."""
    path = path_in(folder, key)
    return read(path) if path.exists() else None


def path_in(folder: str | Path, key: str) -> Path:
    """Where `folder` keeps the calibration of that key."""
    return Path(folder) / f"neurons-{key}.json"
