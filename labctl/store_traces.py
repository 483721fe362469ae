"""Waveforms in the HDF5 file: per name one stack of integer codes, compressed and check-summed."""

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labctl.protocol import Trace
from labctl.schema import TraceCheck

AT_ONCE = 1 << 20  # bytes; a waveform from this size on is written without being copied, and so are many shorter ones
GZIP: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
CHUNK = 10_000  # samples: one record in 2 ms, a time slice through 200 records in 30 ms
PER_TRACE = {
    "row": ("<i8", "", "number of the row it belongs to; -1: none"),
    "length": ("<i8", "", "samples; the rest of the line is padding"),
    "scale": ("<f8", None, "value = codes·scale + offset"),
    "offset": ("<f8", None, "value = codes·scale + offset"),
    "t0": ("<f8", "s", "time of the first sample from the trigger"),
    "dt": ("<f8", "s", "sample interval"),
    "elapsed": ("<f8", "s", "time since the start of the run"),
}


class TraceWriter:
    """Gathers traces and writes them by name."""

    def __init__(self, entry: Any) -> None:
        self._gathered = 0
        self._entry = entry
        self._check = TraceCheck()
        self._stacks: dict[str, _Stack] = {}
        self._pending: dict[str, list[tuple[Trace, NDArray[Any], int, float]]] = {}

    def add(self, trace: Trace, row: int, t: float) -> bool:
        """Gather one; True when `write` must follow at once, because the codes were not copied."""
        codes = self._check.codes(trace)
        large = codes.nbytes >= AT_ONCE
        self._pending.setdefault(trace.name, []).append((trace, codes if large else codes.copy(), row, t))
        self._gathered += codes.nbytes
        return large or self._gathered >= AT_ONCE

    def write(self) -> None:
        """Append what was gathered."""
        pending, self._pending, self._gathered = self._pending, {}, 0
        for name, items in pending.items():
            if name not in self._stacks:
                self._stacks[name] = _Stack(self._entry, items[0][0], items[0][1].dtype)
            self._stacks[name].append(items)

    def finish(self, sums: dict[str, list[int]]) -> None:
        """Write the rest, and the check values that the journal has."""
        self.write()
        for name, stack in self._stacks.items():
            stack.finish(sums.get(name, []))


class _Stack:
    """The traces of one name."""

    def __init__(self, entry: Any, first: Trace, dtype: np.dtype[Any]) -> None:
        traces = entry.require_group("traces")
        traces.attrs["NX_class"] = "NXcollection"
        self._group = group = traces.create_group(first.name)
        self.dtype = dtype
        self._n = 0
        self._samples = 0
        self._first = first
        group.attrs.update({
            "NX_class": "NXdata", "signal": "codes", "title": first.name, "interpretation": "spectrum",
            "axes": ["row", "t"], "row_indices": 0, "t_indices": 1,
        })  # fmt: skip
        for name, (kind, unit, meaning) in PER_TRACE.items():
            dataset = group.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(256,))
            dataset.attrs["units"] = first.unit if unit is None else unit
            dataset.attrs["long_name"] = meaning
        sample = group.create_dataset("sample", (0,), "<i8", maxshape=(None,), chunks=(CHUNK,))
        sample.attrs.update({"units": "", "long_name": "number of the sample"})
        times = group.create_dataset("t", (0,), "<f8", maxshape=(None,), chunks=(CHUNK,))
        times.attrs.update({"units": "s", "long_name": "time from the trigger"})
        group["row"].make_scale("row")
        sample.make_scale("sample")
        times.dims[0].attach_scale(sample)
        for name in PER_TRACE:
            if name != "row":
                group[name].dims[0].attach_scale(group["row"])
        self._make_codes()
        self._same_scale = self._same_time = True
        self._widened = False
        self._describe_scale()

    def _make_codes(self) -> None:
        # codes of a converter halve at least; the noise of floats does not compress, and their rate is what counts
        length = max(len(self._first.codes), 256)
        if self.dtype.kind == "f":
            packing, chunk = {}, min(length, 1 << 20)
        else:
            packing, chunk = GZIP, min(length, CHUNK)
        codes = self._group.create_dataset(
            "codes",
            (self._n, self._samples),
            self.dtype,
            maxshape=(None, None),
            chunks=(1, chunk),
            **packing,
        )
        codes.attrs.update({"units": self._first.unit, "long_name": self._first.name})
        codes.dims[0].attach_scale(self._group["row"])
        codes.dims[1].attach_scale(self._group["sample"])

    def append(self, items: list[tuple[Trace, NDArray[Any], int, float]]) -> None:
        group = self._group
        dtype = np.result_type(self.dtype, *(codes.dtype for _, codes, _, _ in items))
        if dtype != self.dtype:
            self._widen(dtype)
        samples = max(self._samples, *(len(codes) for _, codes, _, _ in items))
        first, self._n = self._n, self._n + len(items)
        for name in PER_TRACE:
            group[name].resize(self._n, 0)
        group["codes"].resize((self._n, samples))
        if samples > self._samples:
            group["sample"].resize(samples, 0)
            group["sample"][self._samples :] = np.arange(self._samples, samples)
            if self._same_time:
                group["t"].resize(samples, 0)
                group["t"][self._samples :] = self._first.t0 + np.arange(self._samples, samples) * self._first.dt
            self._samples = samples
        if len(items) > 1 and len({len(codes) for _, codes, _, _ in items}) == 1:
            group["codes"][first:, : len(items[0][1])] = np.stack([codes for _, codes, _, _ in items])
        else:
            for k, (_, codes, _, _) in enumerate(items):
                group["codes"][first + k, : len(codes)] = codes
        columns = {
            "row": [row for _, _, row, _ in items],
            "length": [len(codes) for _, codes, _, _ in items],
            "elapsed": [t for _, _, _, t in items],
        } | {name: [getattr(trace, name) for trace, _, _, _ in items] for name in ("scale", "offset", "t0", "dt")}
        for name, values in columns.items():
            group[name][first:] = values
        self._check_constant([trace for trace, _, _, _ in items])

    def finish(self, sums: list[int]) -> None:
        if len(sums) == self._n and not self._widened:
            dataset = self._group.create_dataset("crc32", data=np.array(sums, "<u4"))
            dataset.attrs.update({"units": "", "long_name": "CRC-32 of the codes, little-endian, without the padding"})
            dataset.dims[0].attach_scale(self._group["row"])

    def _check_constant(self, traces: list[Trace]) -> None:
        """What was written once for the whole stack must hold for each trace, or go."""
        group, one = self._group, self._first
        if self._same_scale and any((t.scale, t.offset) != (one.scale, one.offset) for t in traces):
            self._same_scale = False
            self._describe_scale()
        if self._same_time and any((t.t0, t.dt) != (one.t0, one.dt) for t in traces):
            self._same_time = False
            group["t"].dims[0].detach_scale(group["sample"])
            del group["t"]
            del group.attrs["t_indices"]
            group.attrs.update({"axes": ["row", "sample"], "sample_indices": 1})

    def _describe_scale(self) -> None:
        """value = codes·scale + offset for readers that decode by themselves: CF (xarray), NeXus (silx)."""
        group, one = self._group, self._first
        attrs = group["codes"].attrs
        if self._same_scale:
            attrs.update({"scale_factor": one.scale, "add_offset": one.offset})
            group["codes_scaling_factor"] = one.scale
            group["codes_offset"] = one.offset
        else:
            del attrs["scale_factor"], attrs["add_offset"]
            del group["codes_scaling_factor"], group["codes_offset"]

    def _widen(self, dtype: np.dtype[Any]) -> None:
        """A later trace needs more bits: rewrite what is there, value for value."""
        old: h5py.Dataset = self._group["codes"]
        values = old[...]
        # the scales refer back to it
        old.dims[0].detach_scale(self._group["row"])
        old.dims[1].detach_scale(self._group["sample"])
        del self._group["codes"]
        self._widened = True
        self.dtype = dtype
        self._make_codes()
        self._group["codes"][...] = values
        if self._same_scale:
            self._group["codes"].attrs.update({"scale_factor": self._first.scale, "add_offset": self._first.offset})
