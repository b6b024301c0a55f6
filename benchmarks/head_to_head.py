"""The engine beside other software on the same data, in one run: ``python -m benchmarks.head_to_head``.

Every voxel is complete, since no peer refits with images missing. All fit by REML on one thread and make no
degrees of freedom. Where a log-likelihood is higher, the fit is nearer the maximum.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.apart import run_apart
from benchmarks.machine import describe_machine
from benchmarks.peers import PEERS, AbsentError, PeerFits
from benchmarks.simulate import Study, draw_values, load_kernels, make_design
from benchmarks.tables import markdown_table, number, replace_section
from blmm_bids.stats.fit import fit_voxels
from blmm_bids.stats.model import FitOptions, Status
from blmm_bids.stats.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from blmm_bids.stats.model import Design

DOCS = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
SEED = 3
OURS = "blmm-bids, fit"


@dataclass(frozen=True)
class Match:
    """One design.

    Attributes
    ----------
    name : str
    study : Study
    n_voxels : int
        Voxels that ours is timed with; the peers get the first of them.
    n_peers : int
        How many these are.
    """

    name: str
    study: Study
    n_voxels: int
    n_peers: int


MATCHES = (
    Match("50 subjects, intercept", Study(50), 20_000, 200),
    Match("50 subjects, intercept + slope", Study(50, slope=True), 4_000, 200),
    Match("50 subjects x 10 sites, crossed", Study(50, n_sites=10), 4_000, 200),
    Match("500 subjects, intercept + slope", Study(500, slope=True), 600, 50),
    Match("500 subjects x 10 sites, crossed", Study(500, n_sites=10), 1_000, 50),
)
HEADER = (
    "design", "software", "voxels", "ms a voxel", "ours is faster", "ours higher by up to",
    "theirs higher by up to", "voxels apart by 1e-3", "not converged",
)  # fmt: skip
# A difference in log-likelihood that moves estimates visibly.
APART = 1e-3


def draw_match(match: Match, n_voxels: int) -> tuple[Design, NDArray[np.float32]]:
    """Draw the match's data; the same each time, so that every process has them."""
    rng = np.random.default_rng(SEED)
    design = make_design(match.study, rng)
    return design, draw_values(design, n_voxels, rng, incomplete=0.0)


def fit_ours(match: Match, n_voxels: int) -> PeerFits:
    """Fit with the engine."""
    load_kernels()
    design, values = draw_match(match, n_voxels)
    start = time.process_time()
    fit = fit_voxels(make_plan(design), values, FitOptions())
    seconds = (time.process_time() - start) / n_voxels
    return PeerFits(seconds, fit.loglik, int((fit.status == Status.MAX_ITER).sum()))


def fit_theirs(match: Match, peer: str, n_voxels: int, n_peers: int) -> PeerFits | str:
    """Fit with a peer; the reason where it can't."""
    design, values = draw_match(match, n_voxels)
    try:
        return PEERS[peer](design, values[:n_peers])
    except AbsentError as reason:
        return str(reason)


def match_rows(match: Match, scale: float) -> tuple[list[tuple[str, ...]], list[str]]:
    """Lines of one design, and who was left out and why."""
    n_voxels, n_peers = (max(1, round(scale * n)) for n in (match.n_voxels, match.n_peers))
    ours = run_apart(fit_ours, match, n_voxels)
    absent = []
    rows: list[tuple[str, ...]] = [
        (match.name, OURS, f"{n_voxels:,}", number(1e3 * ours.seconds), *["-"] * 4, str(ours.unconverged))
    ]
    for peer in PEERS:
        theirs = run_apart(fit_theirs, match, peer, n_voxels, n_peers)
        if isinstance(theirs, str):
            absent.append(f"{match.name}: {peer} left out, {theirs}.")
        else:
            rows.append((match.name, peer, *comparison(ours, theirs)))
    return rows, absent


def comparison(ours: PeerFits, theirs: PeerFits) -> tuple[str, ...]:
    """Fill a peer's columns, from ``voxels`` on."""
    above = ours.loglik[: theirs.loglik.size] - theirs.loglik
    return (
        f"{theirs.loglik.size:,}",
        number(1e3 * theirs.seconds),
        f"{number(theirs.seconds / ours.seconds, 3)} x",
        f"{max(np.nanmax(above), 0):.1e}",
        f"{max(-np.nanmin(above), 0):.1e}",
        str(int((np.abs(above) > APART).sum())),
        "-" if theirs.unconverged is None else str(theirs.unconverged),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or put it into the docs too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head_to_head", description=__doc__)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="times the voxels of each design (default 1)"
    )
    parser.add_argument("--docs", action="store_true", help=f"put the table into docs/{DOCS.name} too")
    arguments = parser.parse_args(argv)
    rows, absent = [], []
    for match in MATCHES:
        found, left_out = match_rows(match, arguments.scale)
        rows += found
        absent += left_out
        print(f"{match.name}: done", file=sys.stderr, flush=True)
    text = "\n\n".join([describe_machine("lme-python", "statsmodels"), markdown_table(HEADER, rows), *absent])
    print(text)
    if arguments.docs:
        replace_section(DOCS, "head-to-head", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
