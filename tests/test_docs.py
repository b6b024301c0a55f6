"""The documentation is true: its blocks run, its tables are the registry's, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from blmm_bids.config import reference
from blmm_bids.design import software
from blmm_bids.design.spec import parse_model_spec
from blmm_bids.outputs.catalogue import renewed

CHECKOUT = Path(__file__).resolve().parents[1]
DOCS = CHECKOUT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *CHECKOUT.glob("*.md")])
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page, *languages):
    text = (DOCS / page).read_text(encoding="utf-8")
    return [(language, content) for language, content in _BLOCK.findall(text) if language in languages]


def anchors(path):
    """Anchors of a page's headings, as the site and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "content",
    [text for _, text in blocks("model-spec.md", "json")],
    ids=lambda text: json.loads(text)["Name"],
)
def test_model_spec__examples_are_specs(content):
    spec = parse_model_spec(json.loads(content))
    assert spec.nodes


def test_model_spec__names_every_key_of_the_software_block():
    text = (DOCS / "model-spec.md").read_text(encoding="utf-8")
    known = {"RandomEffects", "REML", "CompareWith", *software._OPTIONS}
    assert sorted(key for key in known if f"`{key}`" not in text) == []


def test_from_blmm__names_every_field():
    text = (DOCS / "from-blmm.md").read_text(encoding="utf-8")
    assert sorted(field for field in reference.FIELDS if f"`{field}`" not in text) == []


def test_outputs__are_the_registrys():
    text = (DOCS / "outputs.md").read_text(encoding="utf-8")
    assert text == renewed(text), "python -m blmm_bids.outputs.catalogue docs/outputs.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page__links_lead_somewhere(page):
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if re.match(r"https?:|mailto:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / unquote(target)).resolve() if target else page
        assert path.exists(), link
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), link


@pytest.mark.slow
def test_tutorial__runs_from_top_to_bottom(tmp_path):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
    }
    # The block that reads outputs takes those of the tutorial.
    reading = [
        ("python", f'output_dir = "results"\n{content}') for _, content in blocks("outputs.md", "python")
    ]
    for language, content in [*blocks("tutorial.md", "sh", "python"), *reading]:
        command = ["bash", "-euc", content] if language == "sh" else [sys.executable, "-c", content]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{content}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "results" / "node-group.html").is_file()
    assert "at least 20 voxels" in (tmp_path / "results" / "logs" / "CITATION.md").read_text(encoding="utf-8")
