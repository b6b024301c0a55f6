"""The results of a fit: each contrast in pictures, charts and tables, and the variance maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from blmm_bids.bids.names import to_label
from blmm_bids.outputs.clusters import ContrastClusters, log_p, open_contrast
from blmm_bids.outputs.derived import varcorr
from blmm_bids.outputs.naming import is_intercept_model
from blmm_bids.report import wording
from blmm_bids.report.charts import histogram, quantile_plot
from blmm_bids.report.figures import Canvas, Figure, glass_brain, image_of, slices
from blmm_bids.report.slices import AMOUNT, CORRELATION, POSITIVE, STATISTIC, Palette
from blmm_bids.report.summary import n_fitted
from blmm_bids.report.volumes import EmbeddedVolume, embed
from blmm_bids.stats.model import Status

if TYPE_CHECKING:
    from pathlib import Path

    from blmm_bids.report.fit import ReportFit
    from blmm_bids.stats.model import FloatArray

# Contrasts of a fit with pictures, and rows of peaks in the page: the files have all.
MAX_PICTURED = 8
MAX_PEAKS = 60
# Random-effects maps of a fit with pictures.
MAX_VARIANCES = 8
SINGULAR_VOXELS = "Singular voxels"
_LEVELS = (0.05, 0.01)
_NOTHING = 1e-6


@dataclass
class Pictures:
    """What the sections of a fit collect for the page as they go.

    Attributes
    ----------
    canvas : Canvas
        What brains are drawn on.
    group : str
        Heading of the fit's maps in the viewer.
    volumes : list of EmbeddedVolume
        For the viewer.
    """

    canvas: Canvas
    group: str
    volumes: list[EmbeddedVolume] = field(default_factory=list)

    def add(
        self, values: FloatArray, fit: ReportFit, *, name: str, kind: str, threshold: float = 0.0
    ) -> None:
        """Add a map to the viewer, if it is not all zero."""
        made = embed(values, fit.grid.affine, name=name, group=self.group, kind=kind, threshold=threshold)
        if made is not None:
            self.volumes.append(made)


def contrast_view(
    fit: ReportFit, clusters: ContrastClusters, pictures: Pictures, *, is_pictured: bool
) -> dict[str, Any]:
    """One contrast's part of the page."""
    contrast = clusters.contrast
    maps = open_contrast(fit.root, fit.stored, contrast)
    inside = fit.inside > 0
    z = maps.volume("z")
    two_sided = contrast.test == "t"
    tested = z[inside]
    # z of F below zero is a small F: nothing to show.
    shown_z = (z if two_sided else np.maximum(z, 0)).reshape(fit.grid.shape)
    image = image_of(shown_z, fit.grid)
    lowest = clusters.lowest_z
    shown = lowest if np.isfinite(lowest) else float(-special.ndtri(0.0005))
    kind = "statistic" if two_sided else "positive"
    pictures.add(shown_z, fit, name=f"{contrast.name}: z", kind=kind, threshold=shown)
    return {
        "name": contrast.name,
        "test": contrast.test,
        "weights": wording.contrast_texts(contrast),
        "largest": None if contrast.largest is None else f"{contrast.largest:.2f}",
        "n_voxels": contrast.n_voxels,
        "n_passing": clusters.n_voxels,
        "lowest_z": f"{lowest:.2f}" if np.isfinite(lowest) else "",
        "discoveries": _discoveries(maps.volume("fdr")[inside], maps.volume("fdrBY")[inside], tested),
        "figures": _contrast_figures(fit, clusters, pictures.canvas, image) if is_pictured else [],
        "histogram": histogram(
            tested,
            f"Voxels by z of contrast {contrast.name}",
            "z",
            "voxels",
            n_bins=60,
            density=_standard_normal,
        ),
        "quantiles": quantile_plot(
            log_p(tested, contrast.test), f"Observed and expected p values of contrast {contrast.name}"
        ),
        "peaks": _peak_rows(clusters),
        "n_clusters": 0 if clusters.table.empty else int(clusters.table["cluster"].max()),
        "n_peaks": len(clusters.table),
        "table": f"{fit.stored.directory}/{clusters.filename}",
        "maps": [
            {"href": f"{fit.stored.directory}/{path.name}", "name": quantity}
            for quantity, path in maps.paths.items()
            if quantity != "n"
        ],
    }


def _discoveries(q_bh: FloatArray, q_by: FloatArray, z: FloatArray) -> list[dict[str, Any]]:
    """Count voxels below the usual false discovery rates, and say from which z on they are."""
    rows = []
    for name, q in (("Benjamini-Hochberg", q_bh), ("Benjamini-Yekutieli", q_by)):
        finite = q[np.isfinite(q)]
        if finite.size:
            passing = [np.abs(z[q < level]) for level in _LEVELS]
            levels = [
                {"count": each.size, "from_z": f"{each.min():.2f}" if each.size else "none"}
                for each in passing
            ]
            rows.append({"name": name, "levels": levels, "least": wording.p_text(float(finite.min()))})
    return rows


def _standard_normal(z: FloatArray) -> FloatArray:
    """Density of z under the null."""
    density: FloatArray = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return density


def _contrast_figures(
    fit: ReportFit,
    clusters: ContrastClusters,
    canvas: Canvas,
    image: Any,  # noqa: ANN401
) -> list[dict[str, Any]]:
    label = clusters.filename.removesuffix("_clusters.tsv")
    folder = fit.directory / "figures"
    name, found = clusters.contrast.name, []
    passes = clusters.n_voxels > 0
    palette, size = (STATISTIC, "|z|") if clusters.contrast.test == "t" else (POSITIVE, "z")
    if canvas.is_template and passes:
        figure = glass_brain(folder / f"{label}_desc-glass_statmap.png", image, palette, clusters.lowest_z)
        caption = f"{size} above {clusters.lowest_z:.2f}."
        found.append(_shown(figure, f"Glass brain of contrast {name}", caption))
    threshold = clusters.lowest_z if passes else 0.0
    figure = slices(folder / f"{label}_desc-slices_statmap.png", image, canvas, palette, threshold)
    limit = f"{size} above {threshold:.2f}" if threshold else "no voxel passes: all of z is shown"
    found.append(_shown(figure, f"Axial slices of contrast {name}", f"{limit}; on {canvas.caption}."))
    return found


def _shown(figure: Figure, alternative: str, caption: str) -> dict[str, Any]:
    return {"source": figure.source, "alternative": alternative, "caption": caption}


def _peak_rows(clusters: ContrastClusters) -> list[dict[str, Any]]:
    rows = []
    for row in clusters.table.head(MAX_PEAKS).to_dict("records"):
        texts = {name: wording.p_text(row[name]) for name in ("p", "q_bh", "q_by")}
        effect = "" if np.isnan(row["effect"]) else f"{row['effect']:.3g}"
        rows.append(
            {**{str(name): value for name, value in row.items()}, "texts": texts, "effect_text": effect}
        )
    return rows


def count_view(fit: ReportFit, canvas: Canvas) -> dict[str, Any] | None:
    """Show how many images each voxel has; None where all have the same number."""
    counts = fit.volume(fit.files("n")[0])
    inside = counts.reshape(-1)[fit.inside > 0]
    if np.ptp(inside) == 0:
        return None
    figure = slices(
        _figure_path(fit.directory / "figures", fit, "n"), image_of(counts, fit.grid), canvas, AMOUNT
    )
    caption = (
        f"Images with a value: {inside.min():.0f} to {inside.max():.0f}, median {np.median(inside):.0f}."
    )
    return _shown(figure, "Axial slices: images with a value at each voxel", caption)


def variance_view(fit: ReportFit, pictures: Pictures) -> list[dict[str, Any]]:
    """Show standard deviations, correlations, intraclass correlations and singular voxels as maps."""
    folder, canvas = fit.directory / "figures", pictures.canvas
    blocks = []
    for name, label, values, palette in _variance_maps(fit)[:MAX_VARIANCES]:
        image = image_of(values, fit.grid)
        inside = values.reshape(-1)[fit.inside > 0]
        finite = inside[np.isfinite(inside)]
        if not finite.size or not finite.any():
            continue
        kind = "statistic" if palette.symmetric else "amount"
        pictures.add(values, fit, name=name, kind=kind)
        figure = slices(_figure_path(folder, fit, label), image, canvas, palette)
        caption = _spread_caption(finite) if name != SINGULAR_VOXELS else _share_caption(fit)
        blocks.append({"name": name, **_shown(figure, f"Axial slices: {name}", caption)})
    return blocks


def _spread_caption(values: FloatArray) -> str:
    low, middle, high = np.percentile(values, [5, 50, 95])
    # A variance that is zero is estimated as one to about nine digits.
    low, middle = (0.0 if 0 <= value < _NOTHING * high else value for value in (low, middle))
    return f"Median {middle:.3g}; 5 % of voxels below {low:.3g}, 5 % above {high:.3g}."


def _share_caption(fit: ReportFit) -> str:
    counts = fit.stored.status_counts
    singular, fitted = counts.get(Status.SINGULAR, 0), n_fitted(counts)
    return f"{singular:,} of {fitted:,} fitted voxels, {100 * singular / fitted:.1f} %."


def _figure_path(folder: Path, fit: ReportFit, label: str) -> Path:
    stem = fit.files("n")[0].removesuffix("_stat-n_statmap.nii.gz")
    return folder / f"{stem}_desc-{label}_statmap.png"


def _variance_maps(fit: ReportFit) -> list[tuple[str, str, FloatArray, Palette]]:
    """Name, label for the file, values and colours of each variance map."""
    maps: list[tuple[str, str, FloatArray, Palette]] = []
    sigma2 = fit.files("sigma2")
    if not sigma2:
        return maps
    residual = np.maximum(fit.volume(sigma2[0]), 0)
    maps.append(("Residual standard deviation", "sigma", np.sqrt(residual), AMOUNT))
    terms, files = fit.design.terms, fit.files("D")
    if not terms or not files:
        return maps
    columns = [fit.volume(file).reshape(-1) for file in files]
    relative = np.stack(columns, axis=1)
    spread = varcorr(relative, residual.reshape(-1), terms)
    pairs = [(term.group, pair) for term in terms for pair in term.vech_names]
    for column, (group, pair) in enumerate(pairs):
        values = spread[:, column].reshape(fit.grid.shape)
        label = to_label(f"{group} {pair[0]} {pair[1]}")
        if pair[0] == pair[1]:
            maps.append((f"{group}: standard deviation of {pair[0]}", label, values, AMOUNT))
        else:
            maps.append((f"{group}: correlation of {pair[0]} and {pair[1]}", label, values, CORRELATION))
    if is_intercept_model(terms):
        shares = relative / (1 + relative.sum(axis=1, keepdims=True))
        for column, term in enumerate(terms):
            name, values = f"{term.group}: intraclass correlation", shares[:, column]
            maps.append((name, to_label(f"icc {term.group}"), values.reshape(fit.grid.shape), AMOUNT))
    status = fit.volume(fit.files("status")[0])
    singular = ((status == Status.SINGULAR) & (fit.inside.reshape(fit.grid.shape) > 0)).astype(np.float64)
    maps.insert(1, (SINGULAR_VOXELS, "singular", singular, AMOUNT))
    return maps
