"""The page is whole, safe and alone."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from blmm_bids.outputs.write import write_outputs
from blmm_bids.report.page import render_page, write_reports
from tests.outputs.synthetic import blocks, design, run, unit

VOID = {"meta", "br", "link", "img", "input"}


class Checker(HTMLParser):
    """Notes links and ids, and that tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.links += [values[key] for key in ("href", "src") if values.get(key)]
        self.ids += [values["id"]] if values.get("id") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    made, first = run(root / "out", root, warnings=("beware <b>",)), unit(root)
    units = [first, replace(first, group={"contrast": "houses"}), unit(root, node="base", group={})]
    _, results = write_outputs(made, [(fit, blocks(fit)) for fit in units], root / "work")
    return made, results, write_reports(made, results)


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


def test_write_reports__writes_one_page_a_node(written):
    made, _, pages = written
    assert [page.relative_to(made.output_dir).as_posix() for page in pages] == [
        "node-groupModel.html",
        "node-base.html",
    ]


def test_page__nests_its_tags_and_links_to_files_that_exist(written):
    made, _, pages = written
    for page in pages:
        checker = checked(page.read_text(encoding="utf-8"))
        assert len(checker.ids) == len(set(checker.ids))
        for link in checker.links:
            if link.startswith("#"):
                assert link[1:] in checker.ids
            else:
                assert (made.output_dir / unquote(link)).is_file(), link


def test_page__needs_no_network_and_runs_no_script(written):
    _, _, pages = written
    text = pages[0].read_text(encoding="utf-8")
    assert "script" not in checked(text).tags
    assert not re.search(r"https?://|url\(|@import", text)


def test_page__escapes_what_users_write(written):
    _, _, pages = written
    text = pages[0].read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "beware &lt;b&gt;" in text


def test_page__shows_the_fit(written):
    _, _, pages = written
    text = pages[0].read_text(encoding="utf-8")
    for wanted in (
        "y ~ 1 + age + sex + (1 + age | subject)",
        "restricted maximum likelihood (REML)",
        "age is missing",
        "Not fitted: no more images here",
        "sex[T.M]",
        "contrast houses",
        "bids_app_run.py &#39;&lt;in&gt;&#39; out group",
        "prefers-color-scheme: dark",
        "1 min 2 s",
        "20 to 23, mean 21.5",
        "F (6), M (6)",
    ):
        assert wanted in text, wanted
    assert " object at 0x" not in text


def test_render_page__serves_the_smallest_model(tmp_path):
    made = run(tmp_path / "out", tmp_path, command=(), elapsed=None)
    fit = unit(
        tmp_path, design=design(terms=False), contrasts=(), group={}, variables=(), warnings=(),
        dropped=(), excluded=None,
    )  # fmt: skip
    _, results = write_outputs(made, [(fit, blocks(fit))], tmp_path / "work")
    text = render_page(made, results)
    checked(text)
    assert "every image that the selection found was used" in text
