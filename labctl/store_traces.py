"""Waveforms in the HDF5 file: per name one stack of integer codes, compressed and check-summed."""

import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.journal_entries import Piece
from labctl.protocol import Trace
from labctl.schema import TraceCheck, is_constant

AT_ONCE = 1 << 20  # bytes; a waveform from this size on is written at once, and so are many shorter ones
PLACED = 1 << 16  # bytes; from this size on the samples of floats are written here only, not to the journal as well
PACKERS = 2  # threads
IN_WORK = 1 << 24  # bytes of codes that wait to be packed; whoever records more waits
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


class _Item(NamedTuple):
    """A waveform on its way; placed: its codes are in the file already."""

    trace: Trace
    codes: NDArray[Any]
    row: int
    t: float
    placed: bool


class _Work(NamedTuple):
    """Waveforms of one name that are being packed."""

    stack: "_Stack"
    items: list[_Item]
    job: "Future[list[list[bytes]]]"
    size: int


class TraceWriter:
    """Gathers traces and writes them by name; integer codes are packed by threads of its own meanwhile."""

    def __init__(self, entry: Any) -> None:
        self._gathered = 0
        self._entry = entry
        self._check = TraceCheck()
        self._stacks: dict[str, _Stack] = {}
        self._pending: dict[str, list[_Item]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._work: deque[_Work] = deque()
        self._in_work = 0

    def place(self, trace: Trace) -> list[Piece]:
        """Write the codes of a large waveform of floats, and tell where; `add` must follow."""
        codes = self._check.codes(trace)
        if codes.dtype.kind != "f" or codes.nbytes < PLACED:
            return []
        self.write()  # those before it
        stack = self._stack(trace, codes.dtype)
        return stack.place(codes) if stack.dtype == codes.dtype else []

    def add(self, trace: Trace, row: int, t: float, placed: bool = False) -> bool:
        """Gather one; True when `write` must follow at once, because the codes were not copied."""
        codes = self._check.codes(trace)
        large = codes.nbytes >= AT_ONCE
        if not (placed or is_constant(codes) or (large and codes.dtype.kind == "f")):
            codes = codes.copy()
        self._pending.setdefault(trace.name, []).append(_Item(trace, codes, row, t, placed))
        self._gathered += codes.nbytes
        return placed or large or self._gathered >= AT_ONCE

    def write(self) -> None:
        """Append what was gathered, or have it packed first."""
        pending, self._pending, self._gathered = self._pending, {}, 0
        for items in pending.values():
            stack = self._stack(items[0].trace, items[0].codes.dtype)
            if stack.dtype.kind in "iu" and all(item.codes.dtype == stack.dtype for item in items):
                self._pool = self._pool or ThreadPoolExecutor(PACKERS, "waveforms")
                codes, size = [item.codes for item in items], sum(item.codes.nbytes for item in items)
                self._work.append(_Work(stack, items, self._pool.submit(_pack_all, codes, stack.chunk), size))
                self._in_work += size
            else:
                self._settle()
                stack.append(items)
        while self._work and (self._work[0].job.done() or self._in_work > IN_WORK):
            self._settle_one()

    def publish(self) -> None:
        """Write everything, so that the file is as it should be seen."""
        self.write()
        self._settle()
        for stack in self._stacks.values():
            stack.publish()

    def finish(self, sums: dict[str, list[int]]) -> None:
        """Write the rest, and the check values that the journal has."""
        self.publish()
        for name, stack in self._stacks.items():
            stack.finish(sums.get(name, []))
        self.close()

    def close(self) -> None:
        """Let go of the threads; what they still have is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _stack(self, first: Trace, dtype: np.dtype[Any]) -> "_Stack":
        if first.name not in self._stacks:
            self._stacks[first.name] = _Stack(self._entry, first, dtype)
        return self._stacks[first.name]

    def _settle(self) -> None:
        while self._work:
            self._settle_one()

    def _settle_one(self) -> None:
        work = self._work[0]
        packed = work.job.result()  # what failed stays first, so that the file cannot be finished without it
        self._work.popleft()
        self._in_work -= work.size
        work.stack.append(work.items, packed)


def _pack_all(waveforms: list[NDArray[Any]], chunk: int) -> list[list[bytes]]:
    return [[_pack(codes[k : k + chunk], chunk) for k in range(0, len(codes), chunk)] for codes in waveforms]


def _pack(codes: NDArray[Any], chunk: int) -> bytes:
    """One chunk as HDF5's own filters shuffle, gzip 1 and fletcher32 would leave it; zlib lets other threads run."""
    whole = _padded(codes, chunk).view(np.uint8).reshape(chunk, -1)
    packed = zlib.compress(np.ascontiguousarray(whole.T).data, 1)
    words = np.frombuffer(packed + b"\0" * (len(packed) % 2), ">u2").astype(np.uint64)
    sums = int(words.sum()), int((words * np.arange(len(words), 0, -1, dtype=np.uint64)).sum())
    low, high = ((value - 1) % 65535 + 1 for value in sums)  # it folds to 1 … 65535; zlib's first byte is never 0
    return packed + (high << 16 | low).to_bytes(4, "little")


def _padded(codes: NDArray[Any], chunk: int) -> NDArray[Any]:
    """A whole chunk, contiguous."""
    rest = chunk - len(codes)
    return np.concatenate([codes, np.zeros(rest, codes.dtype)]) if rest else codes


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
        self._retired: list[Any] = []
        group.attrs.update({"NX_class": "NXdata", "signal": "codes", "title": first.name, "interpretation": "spectrum"})
        for name, (kind, unit, meaning) in PER_TRACE.items():
            dataset = group.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(64,))
            dataset.attrs.update({"units": first.unit if unit is None else unit, "long_name": meaning})
        group["row"].make_scale("row")
        for name in PER_TRACE:
            if name != "row":
                group[name].dims[0].attach_scale(group["row"])
        self._make_codes()
        self._make_axis("t")
        self._describe_scale()

    def append(self, items: list[_Item], packed: list[list[bytes]] | None = None) -> None:
        """Add traces, all codes in their place; packed: the chunks of each."""
        for trace, codes, row, t, _ in items:
            own = {name: getattr(trace, name) for name in ("scale", "offset", "t0", "dt")}
            self._unseen.append({"row": row, "length": len(codes), "elapsed": t, **own})
        self._check_constant([item.trace for item in items])
        dtype = np.result_type(self.dtype, *(item.codes.dtype for item in items))
        if dtype != self.dtype:
            self._widen(dtype)
        first, self._n = self._n, self._n + len(items)
        self._samples = max(self._samples, *(len(item.codes) for item in items))
        self._codes.resize((self._n, self._samples))
        for k, item in enumerate(items):
            if packed is not None:
                for number, data in enumerate(packed[k]):
                    self._codes.id.write_direct_chunk((first + k, number * self.chunk), data)
            elif self.dtype.kind == "f" and not item.placed:
                self._put(first + k, item.codes.astype(self.dtype, copy=False))
            elif not item.placed:
                self._codes[first + k, : len(item.codes)] = item.codes

    def place(self, codes: NDArray[Any]) -> list[Piece]:
        """Write the codes of the next trace, which `append` will add; tell where in the file they are."""
        self._samples = max(self._samples, len(codes))
        self._codes.resize((self._n + 1, self._samples))
        self._put(self._n, codes)
        where = [self._codes.id.get_chunk_info_by_coord((self._n, k)) for k in range(0, len(codes), self.chunk)]
        sizes = [codes[k : k + self.chunk].nbytes for k in range(0, len(codes), self.chunk)]
        return [Piece(info.byte_offset, size) for info, size in zip(where, sizes, strict=True)]

    def _put(self, line: int, codes: NDArray[Any]) -> None:
        """Floats have no filters: their chunks go to the file as they are."""
        for k in range(0, len(codes), self.chunk):
            self._codes.id.write_direct_chunk((line, k), _padded(codes[k : k + self.chunk], self.chunk))

    def publish(self) -> None:
        """Bring all that goes with the codes to their length."""
        rows, self._unseen = self._unseen, []
        if len(self._codes) != self._n:  # one was placed, and could not be recorded
            self._codes.resize(self._n, 0)
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
            packing, self.chunk = {}, min(length, 1 << 20)
        else:
            packing, self.chunk = GZIP, min(length, CHUNK)
        shape = (self._n, self._samples)
        self._codes: Any = self._group.create_dataset(
            "codes", shape, self.dtype, maxshape=(None, None), chunks=(1, self.chunk), **packing
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
        self._retired.append(
            self._codes
        )  # as long as it is held, HDF5 leaves its place alone: the journal points there
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
