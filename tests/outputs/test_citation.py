"""The methods text cites what was used, in three formats."""

from __future__ import annotations

import re

import pytest

from blmm_bids.outputs.citation import REFERENCES, cited_keys, paragraph_html, write_citations
from blmm_bids.outputs.results_file import read_results, store_results
from blmm_bids.outputs.write import write_unit
from blmm_bids.stats.model import FitOptions
from blmm_bids.stats.thresholds import Threshold
from tests.outputs.synthetic import blocks, design, run, unit


@pytest.fixture
def written(tmp_path):
    made = run(tmp_path / "out", tmp_path)
    linear = unit(tmp_path, design=design(terms=False), node="linear", contrasts=())
    mixed = unit(tmp_path, fit_options=FitOptions(reml=False))
    store_results(made, [write_unit(made, each, blocks(each), tmp_path / "w") for each in (linear, mixed)])
    return read_results(tmp_path / "out")


def test_write_citations__says_what_was_done_and_cites_it(written):
    paths = write_citations(written, Threshold("q", 0.05, 20))
    markdown, page, bibtex = (path.read_text(encoding="utf-8") for path in paths)
    assert [path.name for path in paths] == ["CITATION.md", "CITATION.html", "CITATION.bib"]
    for text in (markdown, page):
        assert "ordinary linear model" in text
        assert "by maximum likelihood (ML)" in text
        assert "with 4 levels (Intercept, age)" in text
        assert "at least 20 voxels" in text
    for key in ("bidsapps", "blmm", "fisher", "lme4", "satterthwaite", "lmertest", "fai", "bh", "by"):
        for text in (markdown, page, bibtex):
            assert REFERENCES[key].doi in text
    assert re.findall(r"@article\{(\w+),", bibtex) == cited_keys(written[0].fits)
    assert bibtex.count("{") == bibtex.count("}")


def test_cited_keys__of_a_linear_model_without_contrasts_are_few(written):
    assert cited_keys(written[0].fits[:1]) == ["bidsapps"]


def test_paragraph_html__escapes_and_marks_code():
    assert paragraph_html("`y ~ <b>` & more") == "<code>y ~ &lt;b&gt;</code> &amp; more"
