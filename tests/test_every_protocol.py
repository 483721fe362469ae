"""What every protocol promises, one test over all that is discovered: it runs with its defaults (shortened here where
those take long), ends safe, re-executes identically, opens in NeXus viewers and in xarray, and draws its picture."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray

import labctl
from labctl.plot import plot
from labctl.protocol import Table, discover
from labctl.replay import verify

SHORT: dict[str, dict[str, Any]] = {
    "bit_slice": {"values": [0, 5, 10]},
    "converge_to_state": {"v_step": 0.3},
    "endurance": {"cycles": 30},
    "forming": {"rows": [0, 1], "columns": [0]},
    "half_select_disturb": {"rows": [0, 1], "pulses": 30},
    "iv_sweep": {"points": 40, "cycles": 2},
    "lif_calibrate": {"neuron": [0, 1]},
    "lif_fi_curve": {"i_syn": [50e-6, 100e-6], "duration": 5e-3, "trace": True},
    "multilevel": {"rows": [0, 1], "times": [2.0]},
    "mvm": {"vectors": 2, "repeats": 2, "signed": True},
    "parameter_fit": {"n": 10},
    "potentiation_depression": {"n_set": 10, "n_reset": 10},
    "program_verify": {"rows": [0], "columns": [0, 1, 2]},
    "state_seeker": {"v_wl_step": 0.2, "hold": 0.01},
    "program_weights": {"rows": [0, 1], "levels": 16, "times": [2.0]},
    "read_disturb": {"pulses": 1000},
    "read_noise": {"samples": 300},
    "relaxation": {"rows": [0], "dense": 5, "per_decade": 2},
    "stdp": {"repeats": 2},
}


@pytest.mark.parametrize("name", discover())
def test_every_protocol_keeps_the_promises(name: str, tmp_path: Path) -> None:
    declared = discover()[name]
    path = tmp_path / f"{name}.h5"
    with labctl.open_bench("sim", seed=11) as bench:
        run = labctl.run(name, bench, out=path, **SHORT.get(name, {}))
        assert bench.board.status().safe
    assert run.status == "done"
    assert run.check() == []
    expected = declared.expected_rows(declared.check(SHORT.get(name, {})))
    assert expected in (None, run.row_count()), "the progress bar would lie"

    same = verify(path)
    assert same.rows == sum(run.row_count(table) for table in run.tables)
    assert same.traces == sum(run.trace_count(trace) for trace in run.traces)

    for table in declared.tables:
        opens_as_table(path, table, run)
    opens_in_nexus(path)
    assert plot(run, tmp_path / "picture.png").stat().st_size > 5000


def opens_as_table(path: Path, table: Table, run: labctl.Run) -> None:
    """xarray sees every declared column with its unit, from the same bytes."""
    with xarray.open_dataset(path, engine="h5netcdf", group=f"entry/{table.name}") as dataset:
        for column in table.columns:
            seen = dataset[column.name]
            assert seen.attrs.get("units", "") == column.q.unit
            np.testing.assert_array_equal(seen.values, run.table(table.name)[column.name])


def opens_in_nexus(path: Path) -> None:
    """From the root, `default` leads to an NXdata whose signal and axes exist and fit each other."""

    def text(value: Any) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    with h5py.File(path) as file:
        group: Any = file
        assert text(group.attrs["NX_class"]) == "NXroot"
        while text(group.attrs["NX_class"]) != "NXdata":
            group = group[text(group.attrs["default"])]
        signal = group[text(group.attrs["signal"])]
        axes = [text(axis) for axis in np.atleast_1d(group.attrs["axes"])]
        for dimension, axis in enumerate(axes):
            if axis != ".":
                assert len(group[axis]) == signal.shape[dimension]
        assert "units" in signal.attrs
