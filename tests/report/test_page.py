"""The page is whole, safe and alone, and is made from the outputs only."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest

from blmm_bids.cli import main
from blmm_bids.outputs.write import write_outputs
from blmm_bids.report.page import write_reports
from blmm_bids.stats.model import Status
from blmm_bids.stats.thresholds import Threshold
from tests.outputs.synthetic import blocks, design, run, unit

VOID = {"meta", "br", "link", "img", "input"}
MAX_BYTES = 5_000_000


class Checker(HTMLParser):
    """Notes links, sources and ids, and that tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.links += [values["href"]] if values.get("href") else []
        self.sources += [values["src"]] if values.get("src") else []
        self.ids += [values["id"]] if values.get("id") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    made, first = run(root / "out", root, warnings=("beware <b>",)), unit(root)
    units = [first, replace(first, group={"contrast": "houses"}), unit(root, node="base", group={})]
    write_outputs(made, [(fit, blocks(fit)) for fit in units], root / "work")
    return made.output_dir, write_reports(made.output_dir, Threshold("z", 1.0, 1))


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    return checker


def test_write_reports__writes_one_page_a_node(written):
    root, pages = written
    assert [page.relative_to(root).as_posix() for page in pages] == ["node-groupModel.html", "node-base.html"]
    assert all(page.stat().st_size < MAX_BYTES for page in pages)


def test_page__nests_its_tags_and_links_to_files_that_exist(written):
    root, pages = written
    for page in pages:
        checker = checked(page.read_text(encoding="utf-8"))
        for link in checker.links:
            if link.startswith("#"):
                assert link[1:] in checker.ids
            else:
                assert (root / unquote(link)).is_file(), link


def test_page__holds_all_that_it_shows(written):
    _, pages = written
    text = pages[0].read_text(encoding="utf-8")
    sources = checked(text).sources
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"@import|<link|url\(", re.sub(r"<script.*?</script>", "", text, flags=re.S))


def test_page__escapes_what_users_write(written):
    _, pages = written
    text = pages[0].read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "beware &lt;b&gt;" in text


def test_page__shows_the_fit(written):
    _, pages = written
    text = pages[0].read_text(encoding="utf-8")
    for wanted in (
        "y ~ 1 + age + sex + (1 + age | subject)",
        "restricted maximum likelihood (REML)",
        "age is missing (1)",
        "Not fitted: no more images here",
        "sex[T.M]",
        "contrast houses",
        "bids_app_run.py &#39;&lt;in&gt;&#39; out group",
        "prefers-color-scheme: dark",
        "1 min 2 s",
        "20 to 23, mean 21.5",
        "F (6), M (6)",
        "subject 01 session 1",
        "Benjamini-Yekutieli",
        "Residual standard deviation",
        "subject: correlation of Intercept and age",
        "|z| &gt; 1 (uncorrected)",
        "Images with a value: 2 to 12, median 12.",
        "an intercept, age and sex",
        "images in each: 3",
        "z above",
    ):
        assert wanted in text, wanted
    assert " object at 0x" not in text


def test_write_reports__leaves_figures_and_tables_in_the_dataset(written):
    root, _ = written
    folder = root / "node-groupModel"
    names = {path.name for path in (folder / "figures").glob("*.png")}
    stem = "task-nback_run-1_space-MNI152NLin2009cAsym_contrast-faces"
    assert {f"{stem}AgeEffect_desc-slices_statmap.png", f"{stem}_desc-sigma_statmap.png"} <= names
    assert (folder / f"{stem}AgeEffect_clusters.tsv").is_file()
    assert (root / "logs" / "CITATION.bib").is_file()


def test_main__makes_reports_again_from_the_outputs_alone(written, capsys):
    root, pages = written
    page = pages[0]
    before = page.read_bytes()
    page.unlink()
    # BIDS_DIR need not even be there.
    arguments = ["/nowhere", str(root), "group", "--reports-only", "--threshold", "z>1", "--cluster-min", "1"]
    assert main(arguments) == 0
    assert page.read_bytes() == before
    assert str(page) in capsys.readouterr().err


def test_main__makes_the_methods_text_alone(written):
    root, pages = written
    citation, stamp = root / "logs" / "CITATION.md", pages[0].stat().st_mtime_ns
    citation.unlink()
    assert main(["/nowhere", str(root), "group", "--boilerplate-only", "--fdr", "0.1", "-q"]) == 0
    assert "q < 0.1" in citation.read_text(encoding="utf-8")
    assert pages[0].stat().st_mtime_ns == stamp


def test_main__reports_of_no_run_are_a_missing_input(tmp_path, capsys):
    assert main(["/nowhere", str(tmp_path), "group", "--reports-only"]) == 66
    assert "run the model again" in capsys.readouterr().err


def test_write_reports__serves_the_smallest_model(tmp_path):
    made = run(tmp_path / "out", tmp_path, command=(), elapsed=None)
    fit = unit(
        tmp_path, design=design(terms=False), contrasts=(), group={}, variables=(), warnings=(),
        dropped=(), excluded=None, image_stats={}, n_missing=None, constant_entities={},
    )  # fmt: skip
    write_outputs(made, [(fit, blocks(fit))], tmp_path / "work")
    [page] = write_reports(made.output_dir)
    text = page.read_text(encoding="utf-8")
    checked(text)
    assert "a linear model: no random effects" in text
    assert "Voxel inspector" not in text


def test_write_reports__serves_a_fit_without_any_estimate(tmp_path):
    made, fit = run(tmp_path / "out", tmp_path), unit(tmp_path)
    empty = []
    for voxels, found in blocks(fit):
        nothing = {name: np.full(np.shape(values), np.nan) for name, values in found.items()}
        counts = {name: np.zeros_like(found[name]) for name in ("n", "iterations")}
        empty.append((voxels, nothing | counts | {"status": np.full(len(voxels), Status.ONE_LEVEL)}))
    write_outputs(made, [(fit, empty)], tmp_path / "work")
    [page] = write_reports(made.output_dir)
    text = page.read_text(encoding="utf-8")
    checked(text)
    assert "No voxel was fitted" in text
