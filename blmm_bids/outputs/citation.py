"""Methods text with references, made from what was run: Markdown, HTML and BibTeX."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blmm_bids.outputs.files import write_text
from blmm_bids.outputs.manifest import foreign_files

if TYPE_CHECKING:
    from pathlib import Path

    from blmm_bids.outputs.stored import StoredFit, StoredRun
    from blmm_bids.stats.thresholds import Threshold

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reference:
    """A paper.

    Attributes
    ----------
    authors : str
        BibTeX's list, ``Last, First and Last, First``.
    year : int
    title, journal, volume, pages, doi : str
    """

    authors: str
    year: int
    title: str
    journal: str
    volume: str
    pages: str
    doi: str

    @property
    def text(self) -> str:
        """One line for a list of references."""
        names = self.authors.split(" and ")
        listed = names[0] if len(names) == 1 else ", ".join(names[:-1]) + f", & {names[-1]}"
        return (
            f"{listed} ({self.year}). {self.title}. {self.journal}, {self.volume}, {self.pages}. "
            f"https://doi.org/{self.doi}"
        )

    def bibtex(self, key: str) -> str:
        """Entry of a BibTeX file."""
        fields = {
            "author": self.authors, "year": str(self.year), "title": f"{{{self.title}}}",
            "journal": self.journal, "volume": self.volume, "pages": self.pages.replace("-", "--"),
            "doi": self.doi,
        }  # fmt: skip
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        return f"@article{{{key},\n{lines}}}\n"


REFERENCES = {
    "bidsapps": Reference(
        "Gorgolewski, K. J. and others", 2017,
        "BIDS apps: Improving ease of use, accessibility, and reproducibility of neuroimaging data analysis "
        "methods",
        "PLOS Computational Biology", "13(3)", "e1005209", "10.1371/journal.pcbi.1005209",
    ),
    "blmm": Reference(
        "Maullin-Sapey, T. and Nichols, T. E.", 2022,
        "BLMM: Parallelised computing for big linear mixed models",
        "NeuroImage", "264", "119729", "10.1016/j.neuroimage.2022.119729",
    ),
    "fisher": Reference(
        "Maullin-Sapey, T. and Nichols, T. E.", 2021,
        "Fisher scoring for crossed factor linear mixed models",
        "Statistics and Computing", "31", "53", "10.1007/s11222-021-10026-6",
    ),
    "lme4": Reference(
        "Bates, D. and Mächler, M. and Bolker, B. and Walker, S.", 2015,
        "Fitting linear mixed-effects models using lme4",
        "Journal of Statistical Software", "67(1)", "1-48", "10.18637/jss.v067.i01",
    ),
    "satterthwaite": Reference(
        "Satterthwaite, F. E.", 1946, "An approximate distribution of estimates of variance components",
        "Biometrics Bulletin", "2(6)", "110-114", "10.2307/3002019",
    ),
    "lmertest": Reference(
        "Kuznetsova, A. and Brockhoff, P. B. and Christensen, R. H. B.", 2017,
        "lmerTest package: Tests in linear mixed effects models",
        "Journal of Statistical Software", "82(13)", "1-26", "10.18637/jss.v082.i13",
    ),
    "fai": Reference(
        "Fai, A. H.-T. and Cornelius, P. L.", 1996,
        "Approximate F-tests of multiple degree of freedom hypotheses in generalized least squares analyses "
        "of unbalanced split-plot experiments",
        "Journal of Statistical Computation and Simulation", "54(4)", "363-378", "10.1080/00949659608811740",
    ),
    "bh": Reference(
        "Benjamini, Y. and Hochberg, Y.", 1995,
        "Controlling the false discovery rate: A practical and powerful approach to multiple testing",
        "Journal of the Royal Statistical Society: Series B", "57(1)", "289-300",
        "10.1111/j.2517-6161.1995.tb02031.x",
    ),
    "by": Reference(
        "Benjamini, Y. and Yekutieli, D.", 2001,
        "The control of the false discovery rate in multiple testing under dependency",
        "The Annals of Statistics", "29(4)", "1165-1188", "10.1214/aos/1013699998",
    ),
}  # fmt: skip
_INFORMATION = {
    "expected": "the expected information of the maximised criterion",
    "ml-expected": "the expected information of the full likelihood",
    "observed": "the observed information",
}
_NOTE = "The text below describes what was run and may be used freely; adapt it to your paper."


def write_citations(runs: Sequence[StoredRun], threshold: Threshold | None = None) -> list[Path]:
    """Write ``logs/CITATION.md``, ``.html`` and ``.bib`` for all that a dataset holds.

    A file of one of these names that no run wrote stays, with a warning.

    Parameters
    ----------
    runs : sequence of StoredRun
        Runs of one dataset.
    threshold : Threshold, optional
        What tables and figures show; that of each run by default.

    Returns
    -------
    list of Path
        The files written.
    """
    root = runs[0].root
    paragraphs = [each for run in runs for each in methods_paragraphs(run, threshold or run.threshold)]
    paragraphs = list(dict.fromkeys(paragraphs))
    keys = cited_keys([fit for run in runs for fit in run.fits])
    texts = {"md": _markdown(paragraphs, keys), "html": _page(paragraphs, keys), "bib": bibliography(keys)}
    named = {f"logs/CITATION.{ending}": text for ending, text in texts.items()}
    foreign = foreign_files(root, named)
    for name in foreign:
        LOGGER.warning(
            "%s is not of this software and stays as it is; the methods text is left out", root / name
        )
    return [write_text(root / name, text) for name, text in named.items() if name not in foreign]


def methods_paragraphs(run: StoredRun, threshold: Threshold) -> list[str]:
    """Paragraphs for a methods section, in Markdown: one a fit, after what all have in common."""
    paragraphs = [
        f"Voxelwise models were fitted with blmm_bids {run.version}, a BIDS App (Gorgolewski et al., 2017)."
    ]
    paragraphs += [_paragraph(fit) for fit in run.fits]
    if any(fit.contrasts for fit in run.fits):
        sentence = (
            f"Tables list clusters of at least {threshold.min_voxels} voxels (touching by a face or an edge) "
            f"at {threshold.text}."
        )
        if threshold.measure != "q":
            sentence += " False discovery rates (q) over the voxels of each contrast are given beside it."
        sentence += (
            " False discovery rates follow Benjamini and Hochberg (1995), and, for any dependence, Benjamini "
            "and Yekutieli (2001)."
        )
        paragraphs.append(sentence)
    return paragraphs


def cited_keys(fits: Sequence[StoredFit]) -> list[str]:
    """Keys of `REFERENCES` that the methods text of these fits cites, in their order."""
    keys = {"bidsapps"}
    mixed = [fit for fit in fits if fit.terms]
    if mixed:
        keys |= {"blmm", "fisher", "lme4", "satterthwaite", "lmertest"}
    if any(_has_f(fit) for fit in mixed):
        keys.add("fai")
    if any(fit.contrasts for fit in fits):
        keys |= {"bh", "by"}
    return [key for key in REFERENCES if key in keys]


def bibliography(keys: Sequence[str]) -> str:
    """BibTeX of the references."""
    return "\n".join(REFERENCES[key].bibtex(key) for key in keys)


def paragraph_html(paragraph: str) -> str:
    """Write a paragraph as HTML: escaped, with code where Markdown has backticks."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(paragraph))


def _markdown(paragraphs: Sequence[str], keys: Sequence[str]) -> str:
    references = "\n".join(f"- {REFERENCES[key].text}" for key in keys)
    return "\n\n".join(["# Methods", _NOTE, *paragraphs, "# References", references]) + "\n"


def _page(paragraphs: Sequence[str], keys: Sequence[str]) -> str:
    body = "\n".join(f"<p>{paragraph_html(each)}</p>" for each in (_NOTE, *paragraphs))
    references = "\n".join(f"<li>{html.escape(REFERENCES[key].text)}</li>" for key in keys)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Methods</title></head>\n'
        f"<body>\n<h1>Methods</h1>\n{body}\n<h1>References</h1>\n<ul>\n{references}\n</ul>\n</body>\n</html>\n"
    )


def _paragraph(fit: StoredFit) -> str:
    where = f"model '{fit.node}'" + (f" ({fit.title})" if fit.group else "")
    size = f"{fit.n_images} images and {fit.n_voxels} voxels"
    head = f"In the {where}, `{fit.formula}` was fitted to {size}"
    if not fit.terms:
        return f"{head} as an ordinary linear model at each voxel, over the images with a value there."
    criterion = "restricted maximum likelihood (REML)" if fit.reml else "maximum likelihood (ML)"
    factors = "; ".join(
        f"'{term.group}' with {term.n_levels} levels ({', '.join(term.effect_names)})" for term in fit.terms
    )
    return (
        f"{head} as a linear mixed model by {criterion} at each voxel, over the images with a value there "
        f"(Maullin-Sapey & Nichols, 2021, 2022; Bates et al., 2015). Random effects were grouped by "
        f"{factors}. Degrees of freedom follow Satterthwaite (1946; Kuznetsova et al., 2017) with "
        f"{_INFORMATION[fit.satterthwaite]}"
        + (", for F contrasts as in Fai and Cornelius (1996)." if _has_f(fit) else ".")
    )


def _has_f(fit: StoredFit) -> bool:
    return any(contrast.test == "F" for contrast in fit.contrasts)
