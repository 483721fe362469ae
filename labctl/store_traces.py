"""Waveforms in the HDF5 file: per name one stack of integer codes, compressed and check-summed."""

from typing import Any

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

    def publish(self) -> None:
        """Write everything, so that the file is as it should be seen."""
        self.write()
        for stack in self._stacks.values():
            stack.publish()

    def finish(self, sums: dict[str, list[int]]) -> None:
        """Write the rest, and the check values that the journal has."""
        self.publish()
        for name, stack in self._stacks.items():
            stack.finish(sums.get(name, []))


class _Stack:
    """The traces of one name. Codes are written at once, what belongs to each trace when others are to see it."""

    def __init__(self, entry: Any, first: Trace, dtype: np.dtype[Any]) -> None:
        traces = entry.require_group("traces")
        traces.attrs["NX_class"] = "NXcollection"
        self._group = group = traces.create_group(first.name)
        self.dtype = dtype
        self._n = 0
        self._samples = 0
        self._first = first
        self._same_scale = self._same_time = True
        self._widened = False
        self._unseen: list[dict[str, float]] = []
        group.attrs.update({"NX_class": "NXdata", "signal": "codes", "title": first.name, "interpretation": "spectrum"})
        for name, (kind, unit, meaning) in PER_TRACE.items():
            dataset = group.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(256,))
            dataset.attrs.update({"units": first.unit if unit is None else unit, "long_name": meaning})
        group["row"].make_scale("row")
        for name in PER_TRACE:
            if name != "row":
                group[name].dims[0].attach_scale(group["row"])
        self._make_codes()
        self._make_axis("t")
        self._describe_scale()

    def append(self, items: list[tuple[Trace, NDArray[Any], int, float]]) -> None:
        """Add traces, all codes in their place."""
        for trace, codes, row, t in items:
            own = {name: getattr(trace, name) for name in ("scale", "offset", "t0", "dt")}
            self._unseen.append({"row": row, "length": len(codes), "elapsed": t, **own})
        self._check_constant([trace for trace, _, _, _ in items])
        dtype = np.result_type(self.dtype, *(codes.dtype for _, codes, _, _ in items))
        if dtype != self.dtype:
            self._widen(dtype)
        first, self._n = self._n, self._n + len(items)
        self._samples = max(self._samples, *(len(codes) for _, codes, _, _ in items))
        self._codes.resize((self._n, self._samples))
        if len(items) > 1 and len({len(codes) for _, codes, _, _ in items}) == 1:
            self._codes[first:, : len(items[0][1])] = np.stack([codes for _, codes, _, _ in items])
        else:
            for k, (_, codes, _, _) in enumerate(items):
                self._put(first + k, codes)

    def _put(self, line: int, codes: NDArray[Any]) -> None:
        whole = 0
        if self.dtype.kind == "f" and codes.dtype == self.dtype:  # no filters: HDF5 need not touch whole chunks
            chunk = self._codes.chunks[1]
            whole = len(codes) // chunk * chunk
            for start in range(0, whole, chunk):
                self._codes.id.write_direct_chunk((line, start), codes[start : start + chunk])
        if whole < len(codes):
            self._codes[line, whole : len(codes)] = codes[whole:]

    def publish(self) -> None:
        """Bring all that goes with the codes to their length."""
        rows, self._unseen = self._unseen, []
        for name in PER_TRACE if rows else ():
            dataset = self._group[name]
            dataset.resize(self._n, 0)
            dataset[self._n - len(rows) :] = [row[name] for row in rows]
        first = len(self._axis)
        if self._samples > first:
            k = np.arange(first, self._samples)
            self._axis.resize(self._samples, 0)
            self._axis[first:] = self._first.t0 + k * self._first.dt if self._same_time else k

    def finish(self, sums: list[int]) -> None:
        """Add the CRC of each, unless the codes have another dtype now."""
        if len(sums) == self._n and not self._widened:
            dataset = self._group.create_dataset("crc32", data=np.array(sums, "<u4"))
            dataset.attrs.update({"units": "", "long_name": "CRC-32 of the codes, little-endian, without the padding"})
            dataset.dims[0].attach_scale(self._group["row"])

    def _check_constant(self, traces: list[Trace]) -> None:
        """What was written once for the whole stack must hold for each trace, or go."""
        group, one = self._group, self._first
        if self._same_scale and any((t.scale, t.offset) != (one.scale, one.offset) for t in traces):
            self._same_scale = False
            del self._codes.attrs["scale_factor"], self._codes.attrs["add_offset"]
            del group["codes_scaling_factor"], group["codes_offset"]
        if self._same_time and any((t.t0, t.dt) != (one.t0, one.dt) for t in traces):
            self._same_time = False
            self._codes.dims[1].detach_scale(self._axis)
            del group["t"], group.attrs["t_indices"]
            self._make_axis("sample")

    def _make_codes(self) -> None:
        # codes of a converter halve at least; the noise of floats does not compress, and their rate is what counts
        length = max(len(self._first.codes), 256)
        if self.dtype.kind == "f":
            packing, chunk = {}, min(length, 1 << 20)
        else:
            packing, chunk = GZIP, min(length, CHUNK)
        shape = (self._n, self._samples)
        self._codes: Any = self._group.create_dataset(
            "codes", shape, self.dtype, maxshape=(None, None), chunks=(1, chunk), **packing
        )
        self._codes.attrs.update({"units": self._first.unit, "long_name": self._first.name})
        self._codes.dims[0].attach_scale(self._group["row"])

    def _make_axis(self, name: str) -> None:
        """The axis along a trace: time from the trigger, or, where that differs between them, the sample's number."""
        unit, meaning, kind = (
            ("s", "time from the trigger", "<f8") if name == "t" else ("", "number of the sample", "<i8")
        )
        chunk = min(max(len(self._first.codes), 256), CHUNK)
        self._axis = self._group.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(chunk,), **GZIP)
        self._axis.attrs.update({"units": unit, "long_name": meaning})
        self._axis.make_scale(name)
        self._codes.dims[1].attach_scale(self._axis)
        self._group.attrs.update({"axes": ["row", name], "row_indices": 0, f"{name}_indices": 1})

    def _describe_scale(self) -> None:
        """For readers that decode by themselves.

        CF (xarray): codes·scale_factor + add_offset. NeXus (NXdata): (codes + offset)·scaling_factor.
        """
        one = self._first
        self._codes.attrs.update({"scale_factor": one.scale, "add_offset": one.offset})
        self._group["codes_scaling_factor"] = one.scale
        self._group["codes_offset"] = one.offset / one.scale if one.scale else 0.0

    def _widen(self, dtype: np.dtype[Any]) -> None:
        """A later trace needs more bits: rewrite what is there, value for value."""
        old, values = self._codes, self._codes[...]
        old.dims[0].detach_scale(self._group["row"])  # the scales refer back to it
        old.dims[1].detach_scale(self._axis)
        del self._group["codes"]
        self._widened = True
        self.dtype = dtype
        self._make_codes()
        self._codes.dims[1].attach_scale(self._axis)
        self._codes[...] = values
        if self._same_scale:
            self._codes.attrs.update({"scale_factor": self._first.scale, "add_offset": self._first.offset})
