"""The documentation is true: its blocks run, its tables are the registry's, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from blmm_bids.cli import app_parser, normalise
from blmm_bids.cluster import ClusterOptions, plan_cluster
from blmm_bids.config import reference
from blmm_bids.config.files import read_mapping
from blmm_bids.config.reference import read_reference_config
from blmm_bids.config.reference_design import load_design
from blmm_bids.design import software
from blmm_bids.design.build import build_design
from blmm_bids.design.spec import parse_model_spec, spec_from_formula
from blmm_bids.outputs.catalogue import renewed
from tests.datasets import write_image, write_mask

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


def table_of_a_study():
    """Twelve subjects of six families at three sites, three sessions of three contrasts each."""
    rng = np.random.default_rng(0)
    subject, session, contrast = (each.ravel() for each in np.meshgrid(range(12), range(3), range(3)))
    labels = {"subject": subject, "family": subject // 2, "site": subject % 3}
    return pd.DataFrame(
        {
            **{
                name: pd.Categorical([f"{name[0]}{value}" for value in values])
                for name, values in labels.items()
            },
            "contrast": pd.Categorical(np.array(["faces", "houses", "objects"])[contrast]),
            "sex": pd.Categorical(np.array(["F", "M"])[subject % 2]),
            "time": session + rng.uniform(0, 0.2, subject.size),
            "age": rng.normal(50, 9, 12)[subject],
        }
    )


def examples_beside_lme4():
    """Pairs of lme4's formulas and the spec below them."""
    found, formulas = [], []
    for language, content in blocks("model-spec.md", "r", "json"):
        if language == "r":
            formulas = re.findall(r"^lmer\(y ~ (.*)\)$", content, re.M)
        else:
            found.append((formulas, json.loads(content)))
    return found


@pytest.mark.parametrize(
    ("formulas", "spec"), examples_beside_lme4(), ids=[spec["Name"] for _, spec in examples_beside_lme4()]
)
def test_model_spec__examples_are_the_lme4_lines_beside_them(formulas, spec):
    table, nodes = table_of_a_study(), parse_model_spec(spec).nodes
    assert len(formulas) == len(nodes)
    for formula, node in zip(formulas, nodes, strict=True):
        ours = build_design(node, table).design
        lme4s = build_design(spec_from_formula(formula).nodes[0], table).design
        assert ours.fixef_names == lme4s.fixef_names
        np.testing.assert_array_equal(ours.X, lme4s.X)
        assert [term.group for term in ours.terms] == [term.group for term in lme4s.terms]
        for term, other in zip(ours.terms, lme4s.terms, strict=True):
            assert term.effect_names == other.effect_names
            np.testing.assert_array_equal(term.refs, other.refs)
            np.testing.assert_array_equal(term.effects, other.effects)


def test_readme__has_a_spec_that_is_one():
    (content,) = re.findall(r"^```json\n(.*?)^```$", (CHECKOUT / "README.md").read_text("utf-8"), re.M | re.S)
    (node,) = parse_model_spec(json.loads(content)).nodes
    assert len(build_design(node, table_of_a_study()).contrasts) == 5


@pytest.mark.parametrize("content", [text for _, text in blocks("clusters.md", "yaml")])
def test_clusters__configs_make_jobs(content, tmp_path):
    path = tmp_path / "jobqueue.yaml"
    path.write_text(content, encoding="utf-8")
    config = read_mapping(path, "cluster config")
    for backend, section in config.get("jobqueue", {}).items():
        options = ClusterOptions(backend=backend, config=config, n_workers=16)
        planned = plan_cluster(options, tmp_path)
        assert planned.n_workers == 16
        assert planned.bytes_per_worker == pytest.approx(4e9, rel=0.1), section
    assert config.keys() <= {"jobqueue", "distributed"}


def test_from_blmm__config_and_command_are_the_same_model(tmp_path):
    ((_, content),) = blocks("from-blmm.md", "yaml")
    ((_, command),) = blocks("from-blmm.md", "text")
    table = table_of_a_study()
    numbers = {
        "X.csv": np.column_stack([np.ones(len(table)), table["time"], table["age"]]),
        "ones_and_time.csv": np.column_stack([np.ones(len(table)), table["time"]]),
        "subject.csv": table["subject"].cat.codes.to_numpy()[:, None] + 1,
    }
    for name, matrix in numbers.items():
        text = "\n".join(",".join(repr(float(value)) for value in row) for row in matrix)
        (tmp_path / name).write_text(text)
    (tmp_path / "images.txt").write_text("".join(f"{row}.nii\n" for row in range(len(table))))
    (tmp_path / "blmm_config.yml").write_text(content, encoding="utf-8")
    config = read_reference_config(tmp_path / "blmm_config.yml")
    theirs = load_design(config)
    args = app_parser().parse_args(shlex.split(command)[1:])
    ours = build_design(spec_from_formula(args.formula).nodes[0], table).design
    np.testing.assert_array_equal(ours.X, theirs.X)
    (term,), (other,) = ours.terms, theirs.terms
    np.testing.assert_array_equal(term.effects, other.effects)
    np.testing.assert_array_equal(term.refs, other.refs)
    (contrast,) = config.contrasts
    assert args.contrast == [f"{contrast.name}=time"]
    assert contrast.rows == ((0, 1, 0),)


def commands():
    """Every command of the app in the pages, in one line each."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^(?: {4})?(?:\.venv/bin/)?(?:blmm-bids|bids_app_run\.py) (.*)$", text, re.M):
            yield pytest.param(line, id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("line", list(commands()))
def test_page__commands_have_options_that_there_are(line):
    words = shlex.split(line.replace("…", "BIDS_DIR OUTPUT_DIR group"))
    assert app_parser().parse_args(normalise(words)).analysis_level == "group"


def test_model_spec__names_every_key_of_the_software_block():
    text = (DOCS / "model-spec.md").read_text(encoding="utf-8")
    known = {"RandomEffects", "REML", "CompareWith", "Reference", *software._OPTIONS}
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


def folders_of_other_software(root):
    """What SPM, FEAT and AFNI leave of four subjects, as the page has it."""
    for subject in ("sub-01", "sub-02", "sub-03", "sub-04"):
        for name in ("con_0001.nii", "con_0002.nii"):
            write_image(root / "SPM" / subject / name)
        write_mask(root / "SPM" / subject / "mask.nii")
        first = [root / "FSL" / f"{subject}_run-{run}.feat" / "reg_standard" for run in (1, 2)]
        for folder in (root / "FSL" / f"{subject}.gfeat" / "cope1.feat", *first):
            write_image(folder / "stats" / "cope1.nii.gz")
            write_mask(folder / "mask.nii.gz")
        write_image(root / "AFNI" / subject / "faces.nii.gz")


def test_images_table__blocks_run_where_the_software_left_its_images(tmp_path):
    folders_of_other_software(tmp_path)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
    }
    _, *sections = re.split(r"^## ", (DOCS / "images-table.md").read_text(encoding="utf-8"), flags=re.M)
    used = {}
    for section in sections:
        title, _, text = section.partition("\n")
        for language, content in _BLOCK.findall(text):
            if language not in ("sh", "python"):
                continue
            done = subprocess.run(
                ["bash", "-euc", content] if language == "sh" else [sys.executable, "-c", content],
                cwd=tmp_path / title, env=environment, capture_output=True, text=True, check=False,
                timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, f"{content}\n{done.stdout}{done.stderr}"
            used.setdefault(title, []).extend(re.findall(r"images: (\d+) used", done.stderr))
    assert used == {"SPM": ["4", "8"], "FSL": ["4", "8"], "AFNI": ["4"]}
