"""Options of the command line that say what tables and pictures show. Light, for ``--help`` loads it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blmm_bids.stats.thresholds import Threshold


def add_report_options(group: argparse._ArgumentGroup) -> None:
    """Add the options to a parser's group."""
    group.add_argument(
        "--threshold",
        metavar="'p<0.001'",
        help="what tables of clusters and pictures show: p<, q< or z>, two-sided for T (default: p<0.001)",
    )
    group.add_argument("--fdr", type=float, metavar="Q", help="the same by false discovery rate, as 'q<Q'")
    group.add_argument(
        "--cluster-min", type=int, metavar="N", help="voxels that a listed cluster has (default: 10)"
    )
    group.add_argument(
        "--reports-only", action="store_true", help="make the report of a finished run in OUTPUT_DIR again"
    )
    group.add_argument("--boilerplate-only", action="store_true", help="make only its methods text again")


def threshold_of(args: argparse.Namespace) -> Threshold:
    """Read the threshold that the arguments ask for.

    Raises
    ------
    UsageError
        It is not understood.
    """
    from blmm_bids.stats.thresholds import parse_threshold

    return parse_threshold(args.threshold, args.fdr, args.cluster_min)


def rebuild_reports(args: argparse.Namespace) -> int:
    """Run ``--reports-only`` or ``--boilerplate-only``; the exit code."""
    from blmm_bids.app.reports import rebuild

    is_asked = any(value is not None for value in (args.threshold, args.fdr, args.cluster_min))
    threshold = threshold_of(args) if is_asked else None
    return rebuild(args.output_dir.absolute(), threshold, text_only=args.boilerplate_only)
