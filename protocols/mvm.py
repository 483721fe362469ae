"""Matrix–vector product on the array: rows driven, columns sensed, compared with numpy, its error taken apart."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.products import Readout, Sums, input_vectors, known_cells, read_cells, read_products
from drivers.quantities import ALL_COLUMNS, ALL_ROWS, AVERAGE, COLUMN, COLUMNS, ROW, ROWS, STATUS, V_WL_READ, G
from labctl.analysis.products import contributions, product
from labctl.protocol import Rows, protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Product(NamedTuple):
    """One output of one product. An output is a column, or a pair of them. Currents are v_read·Σ x/x_max·G."""

    vector: A[int, Q("", meaning="number of the input vector")]
    repeat: A[int, Q("", meaning="which of the repeated products, from 0")]
    output: A[int, Q("", meaning="number of the column, or of the pair, in the order of `columns`")]
    y: A[float, Q("A", meaning="measured; NaN where status is not ok")]
    y_cells: A[float, Q("A", meaning="by numpy, of the conductances read one by one before (their mean)")]
    y_target: A[float, Q("A", meaning="by numpy, of the conductances that were asked for; NaN without targets")]
    status: A[str, Q("", meaning="ok, over, open or negative (a sample of it was), below (all of them were)")]


class Weight(NamedTuple):
    """One cell, read alone."""

    reading: A[int, Q("", meaning="which reading of the cell, from 0")]
    row: A[int, ROW]
    column: A[int, COLUMN]
    g: A[float, G]
    g_target: A[float, Q("S", meaning="conductance that was asked for; NaN without targets")]
    status: A[str, STATUS]


class Input(NamedTuple):
    """One element of one input vector."""

    vector: A[int, Q("", meaning="number of the input vector")]
    row: A[int, ROW]
    x: A[int, Q("", meaning="the input, of x_max = 2^bits − 1")]


class Error(NamedTuple):
    """One part of the error, over all outputs that could be measured; see `labctl.analysis.products.contributions`."""

    source: A[str, Q("", meaning="total, calibrated, programming, line resistance, cells moved, read noise or ADC")]
    rms: A[float, Q("A", meaning="root mean square of this part")]
    relative: A[float, Q("", meaning="rms over the standard deviation of the outputs by numpy")]
    bits: A[float, Q("", meaning="effective bits if this part were alone: log2(full scale/(rms·√12)), IEEE 1241")]
    full_scale: A[float, Q("A", meaning="the range of the outputs: all inputs at their ends, all cells at g_max")]


def plot(run: Run, figure: "Figure") -> None:
    """Measured against calculated products, and the effective bits of each part of the error."""
    table, errors = run.table(), run.table("error")
    left, right = figure.subplots(1, 2)
    measured, reference = table["y"] * 1e6, table["y_cells"] * 1e6
    left.plot(reference, measured, ".", markersize=4, label="cells read one by one")
    if np.isfinite(table["y_target"]).any():
        left.plot(table["y_target"] * 1e6, measured, "x", markersize=4, label="targets", zorder=1)
    ends = [np.nanmin(reference), np.nanmax(reference)]
    left.plot(ends, ends, color="gray", linewidth=0.8)
    left.set(xlabel="product by numpy (µA)", ylabel="measured (µA)", title=f"{len(set(table['output']))} outputs")
    left.legend(fontsize="small")
    bars = right.barh(errors["source"][::-1], errors["bits"][::-1])
    right.bar_label(bars, fmt="%.1f", padding=2)
    bits = errors["bits"]
    limits = np.min(bits, initial=0.0), 1.15 * np.max(bits, initial=1.0)
    right.set(xlabel="effective bits", title="each part of the error alone", xlim=limits)
    left.grid(True, alpha=0.3)


@protocol(
    total=lambda columns, pairs, inputs, vectors, repeats, **_: (
        (len(input_vectors(inputs)) if inputs else vectors) * repeats * (len(columns) // (2 if pairs else 1))
    ),
    plot=plot,
)
def mvm(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = ALL_ROWS,
    columns: A[Sequence[int], COLUMNS] = ALL_COLUMNS,
    pairs: A[bool, Q("", meaning="take the columns two by two as G+ and G−: weights with a sign")] = False,
    bits: A[int, Q("", 1, 12, "bits of an input, without its sign: x_max = 2^bits − 1")] = 5,
    signed: A[bool, Q("", meaning="draw negative inputs too; they are products of their own, subtracted")] = False,
    vectors: A[int, Q("", 1, 100_000, "input vectors to draw, from the run's seed")] = 8,
    inputs: A[
        str, Q("", meaning=".npy or CSV file of whole-numbered inputs, a vector a line, instead of drawn ones")
    ] = "",
    drive: A[
        Literal["bit-serial", "dac"],
        Q("", meaning="bits on the word lines one after another, or a converter for each source line"),
    ] = "bit-serial",
    repeats: A[int, Q("", 1, 10_000, "products of each vector: their spread is the read noise")] = 8,
    maps: A[int, Q("", 1, 1000, "readings of each cell alone, the half of them after the products")] = 4,
    cells: A[str, Q("", meaning="recorded read_map run to take the conductances from, instead of reading")] = "",
    targets: A[
        str,
        Q(
            "",
            meaning="conductances asked for (S): .npy or CSV of rows × columns, or the run that programmed the cells",
        ),
    ] = "",
    v_read: A[
        float, Q("V", 0.01, 0.5, "source lines of driven rows; their columns' sums must fit the largest range")
    ] = 0.1,
    v_wl: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 16,
    settle: A[float, Q("s", 0, 1, "time before the first sample after inputs changed")] = 1e-6,
) -> Iterator[Product | Weight | Input | Error | Rows]:
    """Products of input vectors with the array's conductances, the columns' currents out.

    All rows are driven at once, every selected bit line is a virtual ground, and the columns are sampled one after
    another within one board program a vector. Before, each cell is read alone at the same voltage and in the same
    direction, so that numpy can multiply what is there: what the product lacks is the array's and the board's doing.
    """
    readout = Readout(tuple(rows), tuple(columns), pairs, v_read, v_wl, average, settle)
    known = known_cells(cells, readout) if cells else None
    target = known_cells(targets, readout, ("g_target", "target")).g if targets else None
    x_max = 2**bits - 1
    drawn = np.random.default_rng(bench.seed).integers(-x_max if signed else 0, x_max + 1, (vectors, len(rows)))
    x = input_vectors(inputs, len(rows), x_max) if inputs else drawn
    found: list[Sums] = []
    with bench.powered():
        before = [known] if known else [read_cells(bench, readout) for _ in range((maps + 1) // 2)]
        y_cells = readout.outputs(product(x, np.mean([each.g for each in before], 0), v_read, x_max))
        y_target = np.full_like(y_cells, np.nan)
        if target is not None:
            y_target = readout.outputs(product(x, target, v_read, x_max))
        for vector, now in enumerate(x):
            sums = read_products(bench, readout, now, x_max, drive, repeats)
            found.append(sums)
            repeat, output = np.indices(sums.y.shape)
            yield Rows(
                Product,
                vector=vector,
                repeat=repeat.ravel(),
                output=output.ravel(),
                y=sums.y.ravel(),
                y_cells=np.tile(y_cells[vector], repeats),
                y_target=np.tile(y_target[vector], repeats),
                status=sums.status.ravel(),
            )
        after = [] if known else [read_cells(bench, readout) for _ in range(maps // 2)]
    row, column = (index.ravel() for index in np.meshgrid(rows, columns, indexing="ij"))
    g_target = np.full(row.shape, np.nan) if target is None else target.ravel()
    for reading, map_ in enumerate(before + after):
        g = np.where(map_.status == "ok", map_.g, np.nan).ravel()
        yield Rows(
            Weight, reading=reading, row=row, column=column, g=g, g_target=g_target,
            status=map_.status.ravel(),
        )  # fmt: skip
    yield Rows(Input, vector=np.repeat(np.arange(len(x)), len(rows)), row=np.tile(rows, len(x)), x=x.ravel())
    products = np.array([readout.outputs(product(x, map_.g, v_read, x_max)) for map_ in before + after])
    g = np.mean([map_.g for map_ in before + after], 0)
    span = np.nanmax(g, initial=0.0) - (np.nanmin(g, initial=np.inf) if pairs else 0.0)
    full_scale = v_read * len(rows) * span * (2 if pairs or (x < 0).any() else 1)
    spread = float(np.nanstd(y_cells)) if np.isfinite(y_cells).any() else float("nan")
    y, adc = np.array([sums.y for sums in found]), np.array([sums.adc.mean(0) for sums in found])
    for part in contributions(y, products, None if target is None else y_target, adc, full_scale):
        yield Error(part.source, part.rms, part.rms / spread, part.bits, full_scale)
