"""Set-up and the two jobs of the README, with nothing but Python 3.11 or newer and its venv and pip.

    python do.py demo      set up, measure an f–I curve on the simulated bench, plot it, re-execute it from its file
    python do.py test      set up, then all checks: format, lint, types, imports, tests (with ngspice, as root)

The virtual environment lives in .venv beside this file; it is made once and brought up to date when pyproject.toml
changes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
SUFFIX = ".exe" if os.name == "nt" else ""


def call(program: str, *arguments: str) -> None:
    """Run a program of the virtual environment; stop with its exit code when it fails."""
    print("$", program, *arguments, flush=True)
    code = subprocess.run([str(BIN / (program + SUFFIX)), *arguments], cwd=HERE, check=False).returncode
    if code:
        sys.exit(code)


def set_up() -> None:
    """Make the virtual environment and install labctl into it, unless that is done already."""
    if sys.version_info < (3, 11):  # noqa: UP036  (whoever runs this has not installed labctl yet)
        sys.exit(f"labctl needs Python 3.11 or newer, this is {sys.version.split()[0]}; run do.py with a newer one")
    stamp = VENV / "labctl-installed"
    wanted = hashlib.sha256((HERE / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not (BIN / f"python{SUFFIX}").exists():
        venv.create(VENV, with_pip=True)
    call("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ".[dev]")
    stamp.write_text(wanted)


def bring_ngspice() -> None:
    """The circuit simulator that the exported circuits are compared with; without it, those tests are skipped."""
    if shutil.which("ngspice") or not shutil.which("apt-get") or getattr(os, "geteuid", lambda: 1)() != 0:
        return
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "ngspice"]):
        print("$", *command, flush=True)
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            print("ngspice cannot be installed; the tests that need it are skipped")
            return


def demo() -> None:
    """The main job: measure, record, plot, re-execute."""
    file = HERE / "runs" / "fi_curve.h5"
    for old in (file, file.with_suffix(".png")):
        old.unlink(missing_ok=True)
    call("labctl", "run", "lif_fi_curve", "--bench", "sim", "--seed", "1", "--trace", "yes", "--out", str(file))
    call("labctl", "show", str(file))
    call("labctl", "plot", str(file))
    call("labctl", "replay", str(file), "--verify")


def test() -> None:
    """Every check; the same that a change must pass."""
    bring_ngspice()
    call("ruff", "format", "--check", ".")
    call("ruff", "check", ".")
    call("mypy")
    call("lint-imports")
    call("python", "-m", "pytest", "-q", *sys.argv[2:])


if __name__ == "__main__":
    jobs = {"demo": demo, "test": test}
    if len(sys.argv) < 2 or sys.argv[1] not in jobs:
        sys.exit(__doc__)
    set_up()
    jobs[sys.argv[1]]()
