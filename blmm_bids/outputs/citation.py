"""Methods text with references, made from what was run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blmm_bids.outputs.records import RunOutputs, UnitOutputs

_REFERENCES = {
    "blmm": (
        "Maullin-Sapey, T., & Nichols, T. E. (2022). BLMM: Parallelised computing for big linear mixed "
        "models. NeuroImage, 264, 119729. https://doi.org/10.1016/j.neuroimage.2022.119729"
    ),
    "fisher": (
        "Maullin-Sapey, T., & Nichols, T. E. (2021). Fisher scoring for crossed factor linear mixed models. "
        "Statistics and Computing, 31, 53. https://doi.org/10.1007/s11222-021-10026-6"
    ),
    "lme4": (
        "Bates, D., Mächler, M., Bolker, B., & Walker, S. (2015). Fitting linear mixed-effects models using "
        "lme4. Journal of Statistical Software, 67(1), 1-48. https://doi.org/10.18637/jss.v067.i01"
    ),
    "satterthwaite": (
        "Satterthwaite, F. E. (1946). An approximate distribution of estimates of variance components. "
        "Biometrics Bulletin, 2(6), 110-114. https://doi.org/10.2307/3002019"
    ),
    "lmertest": (
        "Kuznetsova, A., Brockhoff, P. B., & Christensen, R. H. B. (2017). lmerTest package: Tests in linear "
        "mixed effects models. Journal of Statistical Software, 82(13), 1-26. "
        "https://doi.org/10.18637/jss.v082.i13"
    ),
    "fai": (
        "Fai, A. H.-T., & Cornelius, P. L. (1996). Approximate F-tests of multiple degree of freedom "
        "hypotheses in generalized least squares analyses of unbalanced split-plot experiments. Journal of "
        "Statistical Computation and Simulation, 54(4), 363-378. https://doi.org/10.1080/00949659608811740"
    ),
    "bidsapps": (
        "Gorgolewski, K. J., et al. (2017). BIDS apps: Improving ease of use, accessibility, and "
        "reproducibility of neuroimaging data analysis methods. PLOS Computational Biology, 13(3), e1005209. "
        "https://doi.org/10.1371/journal.pcbi.1005209"
    ),
}
_INFORMATION = {
    "expected": "the expected information of the maximised criterion",
    "ml-expected": "the expected information of the full likelihood",
    "observed": "the observed information",
}


def citation_text(run: RunOutputs, units: Sequence[UnitOutputs]) -> str:
    """Markdown for a methods section: one paragraph a fit, then the references that it needs."""
    paragraphs = [
        "# Methods",
        "The text below describes what was run and may be used freely; adapt it to your paper.",
        f"Voxelwise models were fitted with blmm_bids {run.version}, a BIDS App (Gorgolewski et al., 2017).",
    ]
    paragraphs += [_paragraph(unit) for unit in units]
    keys = _keys(units)
    references = "\n".join(f"- {text}" for key, text in _REFERENCES.items() if key in keys)
    return "\n\n".join([*paragraphs, "# References", references]) + "\n"


def _paragraph(unit: UnitOutputs) -> str:
    group = ", ".join(f"{name} {label}" for name, label in unit.group.items())
    where = f"model '{unit.node}'" + (f" ({group})" if group else "")
    size = f"{unit.design.n_obs} images and {len(unit.voxels)} voxels"
    head = f"In the {where}, `{unit.formula}` was fitted to {size}"
    if not unit.design.terms:
        return f"{head} as an ordinary linear model at each voxel, over the images with a value there."
    criterion = "restricted maximum likelihood (REML)" if unit.fit_options.reml else "maximum likelihood (ML)"
    factors = "; ".join(
        f"'{term.group}' with {term.n_levels} levels ({', '.join(term.effect_names)})"
        for term in unit.design.terms
    )
    return (
        f"{head} as a linear mixed model by {criterion} at each voxel, over the images with a value there "
        f"(Maullin-Sapey & Nichols, 2021, 2022; Bates et al., 2015). Random effects were grouped by "
        f"{factors}. Degrees of freedom follow Satterthwaite (1946; Kuznetsova et al., 2017) with "
        f"{_INFORMATION[unit.fit_options.satterthwaite]}"
        + (", for F contrasts as in Fai and Cornelius (1996)." if _has_f(unit) else ".")
    )


def _has_f(unit: UnitOutputs) -> bool:
    return any(contrast.test == "F" for contrast in unit.contrasts)


def _keys(units: Sequence[UnitOutputs]) -> set[str]:
    keys = {"bidsapps"}
    mixed = [unit for unit in units if unit.design.terms]
    if mixed:
        keys |= {"blmm", "fisher", "lme4", "satterthwaite", "lmertest"}
    if any(_has_f(unit) for unit in mixed):
        keys.add("fai")
    return keys
