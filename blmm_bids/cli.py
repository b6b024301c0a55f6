"""Command lines: argv to settings to app to exit code.

Only argparse, errors and light options are imported here; everything heavy waits until there is work to do.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from blmm_bids import __version__
from blmm_bids.app.mask_options import add_grid_options, add_mask_options, mask_options
from blmm_bids.app.report_options import add_report_options, rebuild_reports, threshold_of
from blmm_bids.cli_cluster import add_cluster, add_cluster_size, cluster_options, early_workers
from blmm_bids.descriptor import PrintDescriptor
from blmm_bids.errors import (
    BlmmError,
    LevelError,
    MissingInputError,
    TerminatedError,
    UsageError,
    bounded,
)

if TYPE_CHECKING:
    from blmm_bids.config.settings import Settings

LEVELS = ("group", "dataset")
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """argparse with this app's exit code for wrong usage."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting with argparse's 2."""
        msg = f"{message}\n{self.format_usage().strip()}\nSee {self.prog} --help."
        raise UsageError(msg)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the BIDS App; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _guarded(lambda: _run_app(arguments), debug="--debug" in arguments)


def main_fit(argv: Sequence[str] | None = None) -> int:
    """Run ``blmm-fit``; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _guarded(lambda: _run_fit(arguments), debug="--debug" in arguments)


def main_compare(argv: Sequence[str] | None = None) -> int:
    """Run ``blmm-compare``; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _guarded(lambda: _run_compare(arguments), debug="--debug" in arguments)


def _guarded(run: Callable[[], int], *, debug: bool) -> int:
    """Turn errors into one message and an exit code."""
    _open_streams()
    try:
        return run()
    except BlmmError as error:
        if debug:
            traceback.print_exc()
        message = str(error) if debug else bounded(str(error), "--debug shows all")
        _say(f"{_error_word()}: {message}")
        return error.exit_code
    except TerminatedError as error:
        _say("terminated; run the same command again to resume")
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted; run the same command again to resume")
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{_error_word()}: {where}{error.strerror or error}")
        # No file system takes such a path, so nothing is there.
        return MissingInputError.exit_code if error.errno == errno.ENAMETOOLONG else 74
    except MemoryError:
        _say(f"{_error_word()}: out of memory; give --mem a smaller value, or lower --nprocs")
        return 1


def _open_streams() -> None:
    """Open what the parent process has closed: else the next file that is opened becomes standard error."""
    for name, descriptor, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _say(message: str) -> None:
    """Write to standard error, which may be a full disk or a closed pipe."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def _error_word() -> str:
    """Say ``error``, in red where a person looks at it (https://no-color.org)."""
    is_plain = os.environ.get("NO_COLOR") or not sys.stderr.isatty()
    return "error" if is_plain else "\033[1;31merror\033[0m"


def app_parser() -> argparse.ArgumentParser:
    """Build the BIDS App's command line."""
    parser = _Parser(
        prog="bids_app_run.py",
        description="Linear mixed models at every voxel of a BIDS derivatives dataset.",
        epilog="Every option may be spelt with underscores too (--participant_label).",
    )
    parser.add_argument(
        "bids_dir", type=Path, metavar="BIDS_DIR", help="derivatives dataset, or a raw one with -d"
    )
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="where the output dataset goes")
    parser.add_argument("analysis_level", metavar="{group,dataset}", help="the two are synonyms")
    parser.add_argument("--version", action="version", version=f"blmm_bids {__version__}")
    parser.add_argument("--bids-exec-spec", action=PrintDescriptor)
    _add_model(parser.add_argument_group("model"))
    _add_filters(parser.add_argument_group("filters"))
    add_mask_options(parser.add_argument_group("masks"))
    _add_compute(parser.add_argument_group("compute"))
    add_cluster(parser.add_argument_group("cluster"))
    _add_output(parser.add_argument_group("output"))
    return parser


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-m", "--model", type=Path, metavar="SPEC", help="BIDS Stats Models file, JSON/YAML")
    group.add_argument(
        "--formula", metavar="TEXT", help="lme4 formula, in place of a spec: 'age + sex + (1 | subject)'"
    )
    group.add_argument(
        "--node-name",
        metavar="NAME",
        help="name of the --formula's model, of its maps' folder and of its report (default: group)",
    )
    group.add_argument(
        "--contrast",
        action="append",
        default=[],
        metavar="NAME=EXPR",
        help="linear expression over design columns ('sex[T.M] - 2*age'); rows separated by ';' give F",
    )
    group.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="VARIABLE=LEVEL",
        help="level that the others are compared with (default: the alphabetically first); may be repeated",
    )


def _add_filters(group: argparse._ArgumentGroup) -> None:
    many = {"nargs": "+", "default": [], "metavar": "LABEL"}
    group.add_argument("--participant-label", help="labels, or a file with one a line", **many)  # type: ignore[arg-type]
    group.add_argument("--exclude-participant-label", help="labels, or a file with one a line", **many)  # type: ignore[arg-type]
    group.add_argument("--session-label", help="sessions to use", **many)  # type: ignore[arg-type]
    group.add_argument("-t", "--task-label", "--task-id", help="tasks to use", **many)  # type: ignore[arg-type]
    group.add_argument("--space", help="spaces to use", **many)  # type: ignore[arg-type]
    group.add_argument("--res", help="resolutions to use", **many)  # type: ignore[arg-type]
    group.add_argument(
        "--bids-filter-file", type=Path, metavar="FILE", help="JSON of entities and labels; null: absent"
    )
    group.add_argument(
        "-d",
        "--derivatives",
        action="extend",
        nargs="+",
        default=[],
        metavar="[NAME=]PATH",
        help="derivatives datasets to read images, masks and tables from",
    )
    group.add_argument(
        "--bids-database-dir", type=Path, metavar="PATH", help="pybids database, made if absent"
    )
    group.add_argument(
        "--images",
        type=Path,
        metavar="TABLE",
        help="images that are not BIDS: a table with a row an image, its path and covariates",
    )
    group.add_argument("--participants-tsv", type=Path, metavar="FILE", help="in place of the datasets' own")
    group.add_argument(
        "--table-encoding", default="auto", metavar="NAME", help="of TSV files (default: told by their bytes)"
    )
    group.add_argument(
        "--missing-values",
        action="extend",
        nargs="+",
        default=[],
        metavar="WORD",
        help="words in tables that mean a missing value, beside n/a, NA, NaN, NULL and #N/A (-999 unknown)",
    )
    group.add_argument(
        "--not-missing",
        action="extend",
        nargs="+",
        default=[],
        metavar="WORD",
        help="words in tables that are values although they look missing (none)",
    )
    group.add_argument("--skip-bids-validation", action="store_true", help="accept an undescribed dataset")
    group.add_argument("--validate", action="store_true", help="run bids-validator-deno on BIDS_DIR first")


def _add_compute(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--nprocs", "--n-cpus", type=int, metavar="N", help="worker processes (default: all processors)"
    )
    group.add_argument(
        "--mem", "--mem-mb", metavar="SIZE", help="total memory: MB when bare, or with K, M, G, T"
    )
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="PATH",
        help="working files (default: OUTPUT_DIR/.work, removed at the end)",
    )
    group.add_argument(
        "--clean-workdir", action="store_true", help="delete this run's working files at its end"
    )
    group.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True, help="use what an earlier run left"
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--outputs",
        default="default",
        metavar="LEVEL[,ranef][,residuals]",
        help="which maps: minimal, default or full; ranef adds a map for each level of the random factors, "
        "residuals one for each image (default: default)",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what OUTPUT_DIR has of another model, or of other data, under the same node name",
    )
    group.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    add_report_options(group)
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    group.add_argument("-q", "--quiet", action="store_true", help="say only what went wrong")
    group.add_argument("--debug", action="store_true", help="show tracebacks")


def normalise(arguments: Sequence[str]) -> list[str]:
    """Spell long options with dashes, whatever the user wrote."""
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        result.append(name.replace("_", "-") + equals + value if argument.startswith("--") else argument)
    return result


def _run_app(arguments: list[str]) -> int:
    args = app_parser().parse_args(normalise(arguments))
    if args.analysis_level not in LEVELS:
        msg = (
            f"analysis level '{args.analysis_level}': not one of {', '.join(LEVELS)}; lower levels' outputs "
            "are read, not made"
        )
        raise LevelError(msg)
    is_report = args.reports_only or args.boilerplate_only
    with nullcontext() if is_report or args.dry_run else early_workers(args, args.cluster):
        from blmm_bids.app.terminal import set_up_logging
        from blmm_bids.stats.kernels.cache_folder import say_where

        set_up_logging(args.verbose, quiet=args.quiet)
        say_where()
        if is_report:
            return rebuild_reports(args)
        settings = _settings(args, tuple(arguments))
        from blmm_bids.app.bids_app import run

        return run(settings)


def _settings(args: argparse.Namespace, arguments: tuple[str, ...]) -> Settings:
    """Turn parsed arguments into the run's settings."""
    from blmm_bids.bids.dataset import DatasetOptions
    from blmm_bids.bids.encodings import check_encoding
    from blmm_bids.bids.words import WordRules
    from blmm_bids.config.files import read_mapping, read_model_spec
    from blmm_bids.config.settings import Filters, Settings, WorkOptions, parse_outputs
    from blmm_bids.design.contrast_spec import parse_contrast_option
    from blmm_bids.design.references import parse_reference_options
    from blmm_bids.design.spec import spec_from_formula

    if (args.model is None) == (args.formula is None):
        msg = "give either --model SPEC or --formula 'TEXT'"
        raise UsageError(msg)
    if args.node_name is not None and args.formula is None:
        msg = "--node-name goes with --formula; in a model spec, change the node's Name"
        raise UsageError(msg)
    entities = [read_mapping(args.bids_filter_file, "filter file")] if args.bids_filter_file else []
    named = {"task": args.task_label, "space": args.space, "res": args.res}
    entities += [{name: labels} for name, labels in named.items() if labels]
    output_dir = args.output_dir.absolute()
    output_level, output_series = parse_outputs(args.outputs)
    return Settings(
        output_dir=output_dir,
        spec=read_model_spec(args.model)
        if args.model
        else spec_from_formula(args.formula, *([] if args.node_name is None else [args.node_name])),
        dataset=DatasetOptions(
            bids_dir=args.bids_dir.absolute(),
            derivatives=tuple(_derivative(text) for text in args.derivatives),
            database_dir=args.bids_database_dir,
            participants_tsv=args.participants_tsv,
            input_masks=args.input_masks,
            skip_validation=args.skip_bids_validation,
            table_encoding=check_encoding(args.table_encoding),
            words=WordRules.of(args.missing_values, args.not_missing),
            images_tsv=args.images and args.images.absolute(),
        ),
        work=WorkOptions(
            work_dir=(args.work_dir or output_dir / ".work").absolute(),
            clean=args.clean_workdir or args.work_dir is None,
            resume=args.resume,
        ),
        filters=Filters(
            participant_label=_labels(args.participant_label),
            exclude_participant_label=_labels(args.exclude_participant_label),
            session_label=tuple(args.session_label),
            entities=tuple(entities),
        ),
        masks=mask_options(args),
        cluster=cluster_options(args, args.cluster),
        contrasts=tuple(parse_contrast_option(text) for text in args.contrast),
        references=parse_reference_options(args.reference),
        output_level=output_level,
        output_series=output_series,
        threshold=threshold_of(args),
        dry_run=args.dry_run,
        overwrite=args.overwrite,
        validate=args.validate,
        command=("bids_app_run.py", *arguments),
    )


def _derivative(text: str) -> tuple[str | None, Path]:
    name, equals, path = text.partition("=")
    if equals and name and "/" not in name:
        return name, Path(path).absolute()
    return None, Path(text).absolute()


def _labels(values: Sequence[str]) -> tuple[str, ...]:
    """Labels, or the lines of a file where the single value names one."""
    from blmm_bids.bids.selection import read_labels

    # Not Path's, which raises for a long label; and what is neither file nor directory is refused by name.
    if len(values) == 1 and os.path.exists(values[0]) and not os.path.isdir(values[0]):  # noqa: PTH110, PTH112
        return read_labels(Path(values[0]))
    return tuple(values)


def _run_fit(arguments: list[str]) -> int:
    parser = _Parser(prog="blmm-fit", description="Fit the model of a blmm_config.yml.")
    parser.add_argument("config", type=Path, metavar="CONFIG.yml")
    parser.add_argument("--version", action="version", version=f"blmm_bids {__version__}")
    _add_fit_options(parser)
    args = parser.parse_args(normalise(arguments))
    with early_workers(args, "local"):
        from blmm_bids.app.reference import run_reference
        from blmm_bids.app.terminal import set_up_logging
        from blmm_bids.config.settings import MaskOptions
        from blmm_bids.stats.kernels.cache_folder import say_where

        set_up_logging(args.verbose, quiet=args.quiet)
        say_where()
        grids = MaskOptions(resample_mask=args.resample_mask, affine_tolerance=args.affine_tolerance)
        return run_reference(args.config, cluster_options(args, "local"), grids, args.work_dir)


def _add_fit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nprocs", "--n-cpus", type=int, metavar="N", help="worker processes (default: numNodes, or all)"
    )
    parser.add_argument("--mem", "--mem-mb", metavar="SIZE", help="total memory (default: MAXMEM a worker)")
    parser.add_argument(
        "-w", "--work-dir", type=Path, metavar="PATH", help="working files (default: outdir/blmm_work)"
    )
    add_grid_options(parser)
    add_cluster_size(parser.add_argument_group("cluster, where the config's clusterType names one"))
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    parser.add_argument("-q", "--quiet", action="store_true", help="say only what went wrong")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def _run_compare(arguments: list[str]) -> int:
    parser = _Parser(prog="blmm-compare", description="Likelihood ratio test between two finished runs.")
    for name in ("smaller", "larger"):
        parser.add_argument(
            name, metavar=name.upper(), help="output directory, DIR:NODE where it has several nodes"
        )
    parser.add_argument("outdir", type=Path, metavar="OUTDIR", help="where the maps go")
    parser.add_argument("--version", action="version", version=f"blmm_bids {__version__}")
    parser.add_argument("-q", "--quiet", action="store_true", help="say only what went wrong")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args(normalise(arguments))
    from blmm_bids.app.compare import run_compare
    from blmm_bids.app.terminal import set_up_logging

    set_up_logging(0, quiet=args.quiet)
    return run_compare(args.smaller, args.larger, args.outdir)
