"""The page of each node: one HTML file that opens offline, made from the output dataset alone."""

from __future__ import annotations

import base64
import logging
import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blmm_bids.outputs.citation import (
    REFERENCES,
    bibliography,
    cited_keys,
    methods_paragraphs,
    paragraph_html,
    write_citations,
)
from blmm_bids.outputs.clusters import write_clusters
from blmm_bids.outputs.files import write_text
from blmm_bids.outputs.manifest import foreign_files
from blmm_bids.outputs.ownership import SHARED_PLACES, check_links
from blmm_bids.outputs.results_file import read_results
from blmm_bids.report import wording
from blmm_bids.report.comparisons import comparisons_view
from blmm_bids.report.figures import open_canvas
from blmm_bids.report.fit import ReportFit, read_fit
from blmm_bids.report.images import images_view
from blmm_bids.report.inspector import REACH, inspector_view
from blmm_bids.report.model import design_view
from blmm_bids.report.results import MAX_PICTURED, Pictures, contrast_view, count_view, variance_view
from blmm_bids.report.summary import summary_view
from blmm_bids.report.volumes import EmbeddedVolume, embed, within_budget

if TYPE_CHECKING:
    from blmm_bids.outputs.stored import StoredFit, StoredRun
    from blmm_bids.stats.thresholds import Threshold

LOGGER = logging.getLogger(__name__)
_PACKAGE = "blmm_bids.report"
_INDEX = "index.html"
# Fits of a node whose maps are drawn and can be looked at in the page.
_MAX_DRAWN = 6


def write_reports(
    root: Path, threshold: Threshold | None = None, directories: Collection[str] | None = None
) -> list[Path]:
    """Write ``node-<Name>.html`` for each node, its figures, and the methods text.

    Parameters
    ----------
    root : Path
        Output dataset with a finished run.
    threshold : Threshold, optional
        What tables and figures show; that of each run by default.
    directories : collection of str, optional
        Nodes whose pages are written, by directory; all by default.

    Returns
    -------
    list of Path
        One page a node, in the order of the fits. Where there are several, ``index.html`` lists them.

    Raises
    ------
    MissingInputError, DataError
        There is no finished run, or one of its files is missing or damaged.
    OutputError, StorageError
        A file cannot be written, or a link leads out of the dataset.
    """
    runs = read_results(root)
    nodes = dict.fromkeys(fit.directory for run in runs for fit in run.fits)
    wanted = [name for name in nodes if directories is None or name in directories]
    check_links(root, [*SHARED_PLACES, *wanted, *(f"{name}.html" for name in wanted)])
    write_citations(runs, threshold)
    pages = []
    for directory in wanted:
        LOGGER.debug("report of %s", directory)
        fits = [fit for run in runs for fit in run.fits if fit.directory == directory]
        # The last of the runs that fitted the node.
        run = next(run for run in reversed(runs) if any(fit.directory == directory for fit in run.fits))
        run = replace(run, fits=(*run.fits, *(fit for fit in fits if fit not in run.fits)))
        page = render_page(run, fits, threshold or run.threshold)
        pages.append(write_text(root / f"{directory}.html", page))
    if len(nodes) > 1:
        write_index(root, runs)
    return pages


def write_index(root: Path, runs: Sequence[StoredRun]) -> None:
    """Write ``index.html``, the list of all models, unless the file that is there is another's."""
    if foreign_files(root, [_INDEX]):
        LOGGER.warning("%s is not of this software and stays as it is", root / _INDEX)
        return
    rows = [
        {
            "href": f"{fit.directory}.html",
            "node": fit.node,
            "title": fit.title,
            "formula": fit.formula,
            "n_images": fit.n_images,
            "n_voxels": fit.n_voxels,
            "contrasts": ", ".join(each.name for each in fit.contrasts),
        }
        for run in runs
        for fit in run.fits
    ]
    view = {"title": ", ".join(dict.fromkeys(run.name for run in runs)), "fits": rows}
    text = _environment().get_template("index.html.jinja").render(view, style=_asset("templates/page.css"))
    write_text(root / _INDEX, text + "\n")


def render_page(run: StoredRun, fits: Sequence[StoredFit], threshold: Threshold) -> str:
    """Make the HTML of one node's page, and its figures; all that comes from the user is escaped."""
    return _environment().get_template("page.html.jinja").render(page_view(run, fits, threshold)) + "\n"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Sorted keys would put the inspector's choices out of the model's order.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment


def page_view(run: StoredRun, fits: Sequence[StoredFit], threshold: Threshold) -> dict[str, Any]:
    """Everything that the page of one node shows.

    Parameters
    ----------
    run : StoredRun
        The run.
    fits : sequence of StoredFit
        The node's fits, one a GroupBy group.
    threshold : Threshold
        What tables and figures show.

    Returns
    -------
    dict
        The template's variables.
    """
    sections: list[dict[str, Any]] = []
    volumes: list[EmbeddedVolume] = []
    inspectors: list[dict[str, Any]] = []
    for number, stored in enumerate(fits, start=1):
        fit = read_fit(run.root, stored)
        is_drawn = number <= _MAX_DRAWN
        section, drawn = fit_view(fit, threshold, is_drawn=is_drawn)
        sections.append({"anchor": f"fit-{number}", **section})
        volumes += drawn
        inspected = inspector_view(fit) if is_drawn else None
        if inspected:
            inspectors.append(inspected)
    kept, omitted = within_budget(volumes)
    keys = cited_keys(fits)
    return {
        "title": fits[0].node,
        "model_name": run.name,
        "description": run.description,
        "command": shlex.join(run.command),
        "version": run.version,
        "software": run.software.items(),
        "settings_file": run.settings_file or "logs/settings.json",
        "elapsed": wording.duration_text(run.elapsed),
        "warnings": list(run.warnings),
        "threshold": threshold.text,
        "min_voxels": threshold.min_voxels,
        "fits": sections,
        "comparisons": comparisons_view(run.root / fits[0].directory),
        "volumes": [volume.as_mapping() for volume in kept],
        "volumes_left_out": omitted,
        "inspectors": inspectors,
        "reach": REACH,
        "methods": [Markup(paragraph_html(each)) for each in methods_paragraphs(run, threshold)],  # noqa: S704
        "references": [REFERENCES[key].text for key in keys],
        "bibliography": bibliography(keys),
        "style": _asset("templates/page.css"),
        "scripts": [_asset(f"templates/{name}.js") for name in ("tables", "viewer", "inspector")],
        "niivue": base64.b64encode(_bytes("vendor/niivue.umd.js.gz")).decode("ascii") if kept else "",
        "niivue_license": _bytes("vendor/LICENSE").decode("utf-8"),
    }


def fit_view(
    fit: ReportFit, threshold: Threshold, *, is_drawn: bool
) -> tuple[dict[str, Any], list[EmbeddedVolume]]:
    """One fit's sections, and its maps for the viewer; without pictures where there are very many fits."""
    stored = fit.stored
    mean = fit.files("mean")
    average = fit.volume(mean[0]) if mean else None
    pictures = Pictures(open_canvas(stored.space, fit.grid, average), stored.title)
    clusters = write_clusters(fit.root, stored, threshold)
    contrasts = [
        contrast_view(fit, found, pictures, is_pictured=is_drawn and number < MAX_PICTURED)
        for number, found in enumerate(clusters)
    ]
    variances = variance_view(fit, pictures) if is_drawn else []
    for quantity, name in (("n", "Images with a value"), ("mean", "Mean of the images")):
        for file in fit.files(quantity):
            pictures.add(fit.volume(file), fit, name=name, kind="amount")
    section = {
        "title": stored.title,
        "summary": summary_view(fit),
        "images": images_view(fit),
        "counts": count_view(fit, pictures.canvas) if is_drawn else None,
        "design": design_view(fit),
        "contrasts": contrasts,
        "variances": variances,
        "maps": [
            {"href": f"{stored.directory}/{each.file}", "name": each.file, "text": each.description}
            for each in stored.maps
        ],
        "series": [_series_view(stored, number) for number in range(len(stored.series))],
        "tables": [{"href": f"{stored.directory}/{name}", "name": name} for name in stored.tables],
    }
    background = _background(pictures)
    return section, ([background] if background else []) + pictures.volumes if is_drawn else []


def _background(pictures: Pictures) -> EmbeddedVolume | None:
    image = pictures.canvas.background
    values = image.get_fdata()
    return embed(values, image.affine, name="background", group=pictures.group, kind="background")


def _series_view(stored: StoredFit, number: int) -> dict[str, Any]:
    series = stored.series[number]
    return {
        "n_maps": series.n_maps,
        "text": series.description,
        "first": {"href": f"{stored.directory}/{series.first}", "name": series.first},
        "last": {"href": f"{stored.directory}/{series.last}", "name": series.last},
    }


def _bytes(name: str) -> bytes:
    return files(_PACKAGE).joinpath(name).read_bytes()


def _asset(name: str) -> Markup:
    """Read a file of ours that goes into the page as it is."""
    return Markup(_bytes(name).decode("utf-8"))  # noqa: S704
