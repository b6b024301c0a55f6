"""Images of a table, end to end: the numbers of the same images in BIDS, and a dataset that may be shared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from blmm_bids.app.directories import places_of
from blmm_bids.bids.dataset import DatasetOptions
from blmm_bids.cli import main
from blmm_bids.config.settings import Settings, WorkOptions
from blmm_bids.design.spec import spec_from_formula
from tests.datasets import SHAPE, longitudinal, write_image, write_mask, write_text, write_tsv

EFFECTS = "*stat-effect_statmap.nii.gz"
MODEL = ("--formula", "1 + time + sex + (1 | subject)", "--nprocs", "1", "--outputs", "full,ranef,residuals")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One study as BIDS and as SPM's folders, and the outputs of both."""
    root = tmp_path_factory.mktemp("study")
    data, maps, raw = longitudinal(root / "data"), root / "maps", root / "raw"
    lines = []
    for image in sorted(data.rglob(EFFECTS)):
        subject, session = image.relative_to(data).parts[:2]
        folder = maps / subject / session
        folder.mkdir(parents=True)
        shutil.copy(image, folder / "con_0001.nii.gz")
        (mask,) = image.parent.glob("*_mask.nii.gz")
        shutil.copy(mask, folder / "mask.nii.gz")
        path = f"{subject}/{session}/con_0001.nii.gz"
        lines.append(f"{path} {subject}/{session}/mask.nii.gz {int(session[-2:]) - 1} {subject} {session}")
    # The order of lines says nothing.
    write_tsv(maps / "images.tsv", "path mask time subject session", *reversed(lines))
    raw.mkdir()
    shutil.copy(data / "participants.tsv", raw)
    assert main([str(data), str(root / "bids"), "group", *MODEL]) == 0
    table = ["--images", str(maps / "images.tsv")]
    assert main([str(raw), str(root / "table"), "group", *table, *MODEL]) == 0
    return root


def maps_of(directory, series=""):
    """Maps by name without what BIDS names add to it."""
    found = {}
    for path in sorted((directory / "node-group").glob("*.nii.gz")):
        name = path.name.removeprefix("task-nback_space-MNI_")
        if ("stat-residual" in name) == (series == "residual"):
            found[name] = nib.load(path).get_fdata()
    return found


def test_images__give_the_numbers_of_the_same_images_in_bids(runs):
    wanted, found = maps_of(runs / "bids"), maps_of(runs / "table")
    assert len(found) > 40
    assert wanted.keys() == found.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    designs = [next((runs / name / "node-group").glob("*design.tsv")) for name in ("bids", "table")]
    first, second = (
        pd.read_csv(path.with_name(path.name.rpartition("desc-")[0] + "design.tsv"), sep="\t")
        for path in designs
    )
    pd.testing.assert_frame_equal(first, second)


def test_images__residuals_are_named_by_the_table(runs):
    wanted, found = maps_of(runs / "bids", "residual"), maps_of(runs / "table", "residual")
    assert list(found)[:2] == [
        "sub-01_ses-01_stat-residual_statmap.nii.gz",
        "sub-01_ses-02_stat-residual_statmap.nii.gz",
    ]
    for values, others in zip(wanted.values(), found.values(), strict=True):
        np.testing.assert_array_equal(values, others)


def test_images__outputs_are_a_dataset_without_this_machines_paths(runs):
    out = runs / "table"
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetLinks"] == {"source": "../raw", "images": "../maps"}
    sidecar = json.loads((out / "node-group" / "stat-sigma2_statmap.json").read_text())
    assert sidecar["Sources"][0] == "bids:images:sub-01/ses-01/con_0001.nii.gz"
    assert json.loads((out / "logs" / "settings.json").read_text())["Images"] == "images.tsv"
    texts = [path for path in out.rglob("*") if path.suffix in {".json", ".tsv", ".log", ".html", ".md"}]
    assert len(texts) > 50
    assert [path.name for path in texts if str(runs) in path.read_text(encoding="utf-8")] == []
    validator = Path(sys.executable).parent / "bids-validator-deno"
    done = subprocess.run(
        [validator, out, "--json"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout


def test_images__report_tells_images_of_one_name_apart(runs):
    page = (runs / "table" / "node-group.html").read_text(encoding="utf-8")
    assert "sub-01/ses-01/con_0001.nii.gz" in page
    assert "sub-04/ses-02/con_0001.nii.gz" in page


def test_images__a_second_run_has_nothing_to_compute(runs, capsys, tmp_path):
    table = ["--images", str(runs / "maps" / "images.tsv"), "--work-dir", str(tmp_path / "work")]
    for _ in range(2):
        assert main([str(runs / "raw"), str(tmp_path / "out"), "group", *table, *MODEL]) == 0
        said = capsys.readouterr().err
    assert "images read: 10 of 10 kept from an earlier run" in said
    assert "voxels fitted: 23 of 23 kept from an earlier run" in said


def test_images__of_3dlmer_run_with_its_model(tmp_path, capsys):
    lines = ["Subj Cond Group Age InputFile"]
    for number in range(8):
        for condition in ("neg", "pos"):
            path = f"S_{number}/{condition}.nii"
            write_image(tmp_path / path, np.random.default_rng(len(lines)).normal(size=SHAPE))
            lines.append(f"S_{number} {condition} {'ab'[number % 2]} {20 + number} {path}")
    write_text(tmp_path / "table.txt", "".join(f"{line} \\\n" for line in lines))
    arguments = [str(tmp_path), str(tmp_path / "out"), "group", "--images", str(tmp_path / "table.txt")]
    formula = ["--formula", "Cond*Group+Age+(1|Subj)", "--nprocs", "1"]
    assert main([*arguments, *formula, "--outputs", "minimal,residuals"]) == 0
    said = capsys.readouterr().err
    assert "random: (Intercept | Subj), 8 levels" in said
    assert "column 'InputFile' of table.txt is taken for 'path'" in said
    residuals = sorted(path.name for path in tmp_path.glob("out/node-group/*residual*.nii.gz"))
    assert residuals[:2] == [
        "sub-S0_desc-image1_stat-residual_statmap.nii.gz",
        "sub-S0_desc-image2_stat-residual_statmap.nii.gz",
    ]
    assert main([*arguments, *formula, "--dry-run"]) == 0


def test_images__groups_by_contrasts_of_any_name(tmp_path):
    lines = ["subject\tcontrast\tpath\n"]
    for number in range(6):
        for contrast in ("faces > houses", "rest"):
            path = write_image(tmp_path / f"s{number}" / f"{contrast[:4]}.nii")
            lines.append(f"s{number}\t{contrast}\t{path}\n")
    write_text(tmp_path / "images.tsv", "".join(lines))
    node = {"Level": "Dataset", "Name": "all", "GroupBy": ["contrast"], "Model": {"Type": "glm", "X": [1]}}
    spec = {"Name": "m", "BIDSModelVersion": "1.0.0", "Nodes": [{**node, "DummyContrasts": {"Test": "t"}}]}
    write_text(tmp_path / "model.json", json.dumps(spec))
    arguments = [str(tmp_path), str(tmp_path / "out"), "group", "--images", str(tmp_path / "images.tsv")]
    assert main([*arguments, "--model", str(tmp_path / "model.json"), "--nprocs", "1"]) == 0
    effects = sorted(path.name for path in tmp_path.glob("out/node-all/*stat-effect_statmap.nii.gz"))
    assert effects == [
        "contrast-facesHousesIntercept_stat-effect_statmap.nii.gz",
        "contrast-restIntercept_stat-effect_statmap.nii.gz",
    ]


@pytest.mark.parametrize(
    ("table", "arguments", "code", "said"),
    [
        ("path age\na.nii 1\n", [], 66, "1 of 1 images that {root}/t.tsv names cannot be found"),
        ("age sex\n1 M\n", [], 65, "{root}/t.tsv has no column 'path'"),
        (
            "path age\nb.nii 1\nc.nii 2\nfour.nii 3\nd.nii 4\n",
            [],
            65,
            "{root}/four.nii: has 4 dimensions (4, 3, 2, 2); wanted one 3-D volume an image. Split it "
            "(fslsplit, 3dTsplit4D, or SPM's 4D to 3D File Conversion), or select a 3-D map",
        ),
        (
            "path age\nb.nii 1\n",
            ["--participant-label", "01"],
            64,
            "filters on subject (--participant-label)",
        ),
        ("path age\nb.nii 1\n", ["--task-label", "x"], 64, "filters on task, and {root}/t.tsv has no such"),
        ("path age\nb.nii 1\n", ["--bids-database-dir", "db"], 64, "leave it out beside --images"),
    ],
)
def test_images__refuses_with_the_exit_code_of_the_kind(tmp_path, capsys, table, arguments, code, said):
    for name in "bcd":
        write_image(tmp_path / f"{name}.nii")
    write_image(tmp_path / "four.nii", shape=(*SHAPE, 2))
    write_mask(tmp_path / "mask.nii")
    write_text(tmp_path / "t.tsv", table.replace(" ", "\t"))
    command = [str(tmp_path), str(tmp_path / "out"), "group", "--images", str(tmp_path / "t.tsv")]
    assert main([*command, "--formula", "1", "--nprocs", "1", "-q", *arguments]) == code
    assert said.format(root=tmp_path) in capsys.readouterr().err
    assert not list(tmp_path.glob("out/node-*"))


POOLED = (
    "error: The 12 images of this fit have 2 file names (con_0001.nii (6), con_0002.nii (6)), and nothing in "
    "the model tells them apart, so that they would count as one quantity. Keep the lines of one of them in "
    "the table of images, or add a column that says what they are: contrast, for the formula or GroupBy; "
    "session or run, where they are repeats."
)


@pytest.mark.parametrize(
    ("names", "column", "formula", "code", "said"),
    [
        (["con_0001", "con_0002"], "", "1 + (1 | subject)", 65, POOLED),
        (["con_0001", "con_0002"], "kind", "1 + kind + (1 | subject)", 0, "Intercept, kind[T.con_0002]"),
        (
            ["con_0001", "con_0002"],
            "session",
            "1 + (1 | subject)",
            0,
            "session (con_0001, con_0002) is not in the formula: repeats",
        ),
        (
            ["con_0001", "con_0002"],
            "contrast",
            "1 + (1 | subject)",
            65,
            "The 12 images of this fit have 2 labels of 'contrast'",
        ),
        (
            ["a/con_0001", "b/con_0001"],
            "",
            "1 + (1 | subject)",
            0,
            "12 images of 6 subjects differ in nothing that the model knows: repeats",
        ),
        (["a/con_0001", "b/con_0001"], "", "1", 65, "6 subjects have several images in this fit"),
    ],
)
def test_images__are_never_pooled_in_silence(tmp_path, capsys, names, column, formula, code, said):
    lines = [f"subject path {column}"]
    for number in range(6):
        for name in names:
            write_image(tmp_path / f"s{number}" / f"{name}.nii")
            lines.append(f"s{number} s{number}/{name}.nii {name if column else ''}")
    write_tsv(tmp_path / "images.tsv", *lines)
    command = [str(tmp_path), str(tmp_path / "out"), "group", "--images", str(tmp_path / "images.tsv")]
    assert main([*command, "--formula", formula, "--nprocs", "1", "--dry-run"]) == code
    assert said in capsys.readouterr().err


def test_images__workers_see_the_folders_of_the_table(tmp_path):
    image = write_image(tmp_path / "scratch" / "s1" / "con_0001.nii")
    write_mask(tmp_path / "masks" / "brain.nii")
    write_tsv(tmp_path / "tables" / "images.tsv", "path mask", f"{image} ../masks/brain.nii")
    settings = Settings(
        output_dir=tmp_path / "out",
        spec=spec_from_formula("1"),
        dataset=DatasetOptions(tmp_path / "study", images_tsv=tmp_path / "tables" / "images.tsv"),
        work=WorkOptions(tmp_path / "work"),
    )
    assert {path.relative_to(tmp_path).as_posix() for path in settings.worker_paths} == {
        "study", "tables", "scratch/s1", "masks", "out", "work",
    }  # fmt: skip
    shown = places_of(settings).hide(f"{tmp_path}/tables/images.tsv, line 2: {image}")
    assert shown == "IMAGES_DIR/images.tsv, line 2: …/con_0001.nii"
