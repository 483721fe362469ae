"""Quantities that protocols on memristor cells share: one unit, one pair of limits and one meaning each.

``v_read: A[float, V_READ] = 0.2`` declares a parameter, ``g: A[float, G]`` a column.
"""

from labctl.quantity import Q

ROW = Q("", 0, 1023, "word and source line of the cell")
COLUMN = Q("", 0, 1023, "bit line of the cell")
ROWS = Q("", 0, 1023, "word and source lines")
COLUMNS = Q("", 0, 1023, "bit lines")
ALL_ROWS, ALL_COLUMNS = tuple(range(16)), tuple(range(4))
"""Of the chip that the built-in station has."""

V_SET = Q("V", 0.01, 4.5, "bit line voltage of a SET pulse")
V_RESET = Q("V", 0.01, 4.5, "source line voltage of a RESET pulse")
V_WL_SET = Q("V", 0, 4.5, "gate voltage of SET: the compliance")
V_WL_RESET = Q("V", 0, 4.5, "gate voltage of RESET")
WIDTH = Q("s", 40e-9, 1, "width of a pulse")
V_READ = Q("V", 0.01, 0.5, "read voltage, low enough to leave the state alone")
V_WL_READ = Q("V", 0, 4.5, "gate voltage of the readings, fully on")
AVERAGE = Q("", 1, 65535, "conversions averaged a sample")

G = Q("S", meaning="conductance with the transistor in series; NaN where status is not ok")
R = Q("Ω", meaning="resistance with the transistor in series; NaN where it could not be resolved")
I = Q("A", meaning="current from bit line to source line; compute with it only where status is ok")  # noqa: E741
T = Q("s", meaning="when it was sampled, on the bench's clock")
STATUS = Q(
    "",
    meaning="ok, over (beyond the largest range), below (too small to resolve), open (line not connected) or negative"
    " (current against the voltage)",
)
ATTEMPTS = Q("", 1, 10_000, "pulses that a cell may get")
CONFIRM = Q("s", 0, 100, "from a reading in the band to the one that confirms it; 0: no second reading")
R_SHORT = Q("Ω", 1, 100e3, "a cell below this is shorted, unless a few RESET pulses bring it back")
NUMBER = Q("", meaning="pulses applied")

ENDED = Q(
    "",
    meaning="done, or why its numbers say nothing: shorted (beyond the largest range, or below r_short), open (nothing"
    " could be resolved: a broken line, or a pristine cell) or negative (current against the voltage)",
)
AFTER = Q("s", meaning="after the end of the pulse")
