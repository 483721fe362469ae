"""Cells that do not do as asked: each protocol ends by its stop rule, with a status that names what the cell is.

The cells of row 0 are faulty, each in its own way; row 1 has a broken word line.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from labctl.replay import verify
from labctl.station import Station, load_station, parse_station

FAULTS = """
shorted = [[0, 0]]
open = [[0, 1]]
stuck = [[0, 2]]
never_forming = [[0, 3]]
open_word_lines = [1]
"""
PLACES = {
    "shorted": (0, 0),
    "open": (0, 1),
    "stuck": (0, 2),
    "never_forming": (0, 3),
    "open line": (1, 0),
    "good": (2, 0),
}


def station(formed: bool) -> Station:
    text = load_station("sim").text
    return parse_station((text if formed else text.replace("formed = true", "formed = false")) + FAULTS, "faulty")


FORMED = {
    "shorted": {"shorted"},
    "open": {"open"},
    "stuck": {"stuck"},
    "never_forming": {"open"},
    "open line": {"open"},
    "good": {"done", "already"},
}
"""What a protocol that moves formed cells says of each."""
PRISTINE = {
    "shorted": {"shorted"},
    "open": {"open"},
    "stuck": {"never"},
    "never_forming": {"never"},
    "open line": {"open"},
    "good": {"formed"},
}
READ = {
    "shorted": {"ok", "over"},
    "open": {"below"},
    "stuck": {"ok"},
    "never_forming": {"below"},
    "open line": {"below"},
    "good": {"ok"},
}
LOOKED_AT = FORMED | {"stuck": {"done"}, "good": {"done"}}
"""… that looks at cells and stresses them, whether they switch or not."""
# protocol → (parameters, whether the array is formed, place → the statuses that name it)
SAID: dict[str, tuple[dict[str, Any], bool, dict[str, set[str]]]] = {
    "converge_to_state": ({"v_step": 0.3, "r_target": 30e3}, True, FORMED),
    "forming": ({}, False, PRISTINE),
    "half_select_disturb": ({"row": 2, "pulses": 10}, True, LOOKED_AT),
    "parameter_fit": ({"n": 20, "amplitudes": [1.0, 2.0]}, True, FORMED),
    "program_verify": ({}, True, FORMED),
    "read_disturb": ({"pulses": 100}, True, LOOKED_AT),
    "read_map": ({}, True, READ),
    "read_noise": ({"samples": 50, "rest": 0.0}, True, LOOKED_AT),
    "relaxation": ({"dense": 5, "per_decade": 1}, True, LOOKED_AT),
    "state_seeker": ({"hold": 0.01}, True, FORMED),
    "stdp": ({"repeats": 1, "dt": [-10e-6, 10e-6]}, True, FORMED),
    "switch_seeker": ({"switches": 4}, True, FORMED),
}


@pytest.mark.parametrize("name", SAID)
def test_every_kind_of_cell_is_named(name: str, tmp_path: Path) -> None:
    parameters, formed, expected = SAID[name]
    path = tmp_path / "run.h5"
    with labctl.open_bench(station(formed), seed=3) as bench:
        run = labctl.run(name, bench, rows=[0, 1, 2], columns=[0, 1, 2, 3], out=path, **parameters)
        assert bench.board.status().safe
    table = run.table()
    status = dict(zip(zip(table["row"].tolist(), table["column"].tolist(), strict=True), table["status"], strict=True))
    assert len(status) == 12, "a faulty cell does not end the run"
    for kind, place in PLACES.items():
        assert status[place] in expected[kind], f"{kind} at {place}"
    assert verify(path).rows > 0


def test_a_shorted_cell_is_not_pulsed_without_end(tmp_path: Path) -> None:
    with labctl.open_bench(station(False), seed=3) as bench:
        labctl.run("forming", bench, rows=[0], columns=[0, 1, 2, 3], out=tmp_path / "f.h5")
        given = [bench.doses.ledger.of(0, column)["pulses"] for column in range(4)]
    assert given[0] == 0, "it conducts: no pulse"
    assert given[1] <= 41
    assert given[3] == 41, "the whole ramp, and no more"


@pytest.mark.parametrize("name", ["iv_sweep", "endurance", "potentiation_depression", "pulse"])
@pytest.mark.parametrize("kind", [kind for kind in PLACES if kind != "good"])
def test_protocols_without_a_stop_rule_type_their_readings(name: str, kind: str, tmp_path: Path) -> None:
    """What could not be resolved is NaN with its status, and never a number."""
    row, column = PLACES[kind]
    small: dict[str, dict[str, Any]] = {
        "iv_sweep": {"points": 20},
        "endurance": {"cycles": 3},
        "potentiation_depression": {"n_set": 3, "n_reset": 3},
        "pulse": {"n": 3},
    }
    place: dict[str, Any] = {"row": row, "column": column}
    if name == "pulse":
        place = {"rows": [row], "columns": [column]}
    with labctl.open_bench(station(True), seed=3) as bench:
        run = labctl.run(name, bench, out=tmp_path / "r.h5", **place, **small[name])
    table = run.table()
    statuses = {"endurance": ["lrs_status", "hrs_status"]}.get(name, ["status"])
    values = {"endurance": ["r_lrs", "r_hrs"], "iv_sweep": ["i"]}.get(name, ["g"])
    for status, value in zip(statuses, values, strict=True):
        bad = table[status] != "ok"
        if name != "iv_sweep":
            assert np.isnan(table[value][bad]).all()
            assert np.isfinite(table[value][~bad]).all()
        if kind in ("open", "open line") or (kind == "never_forming" and name != "iv_sweep"):
            assert set(table[status]) == {"below"}
        elif kind == "never_forming":
            small_v = np.abs(table["v"]) < 1.0
            assert np.abs(table["i"][small_v]).max() < 10e-9, "a pristine cell leaks"
        elif name != "iv_sweep":
            assert not (table[status] == "below").any()
