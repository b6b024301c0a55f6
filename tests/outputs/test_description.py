"""The dataset describes itself without the user's paths."""

from __future__ import annotations

import json

import pytest

from blmm_bids.outputs.description import (
    container_entry,
    dataset_description,
    write_description,
    write_model_files,
)
from blmm_bids.outputs.uris import input_uri, source_names
from tests.outputs.synthetic import run


def test_dataset_description__links_sources_relatively(tmp_path):
    root, derivative = tmp_path / "in put", tmp_path / "in put" / "derivatives" / "prep"
    derivative.mkdir(parents=True)
    described = {"Name": "x", "DatasetDOI": "doi:10.18112/openneuro.ds1", "DatasetVersion": "1.2"}
    (derivative / "dataset_description.json").write_text(json.dumps(described))
    (root / "dataset_description.json").write_text("not json")
    found = dataset_description(run(tmp_path / "out", root, sources={"": root, "prep": derivative}))
    assert found["DatasetType"] == "derivative"
    assert found["DatasetLinks"] == {"source": "../in%20put", "prep": "../in%20put/derivatives/prep"}
    assert found["SourceDatasets"] == [
        {"URL": "../in%20put"},
        {"DOI": "doi:10.18112/openneuro.ds1", "Version": "1.2"},
    ]
    assert found["GeneratedBy"][0]["Name"] == "blmm_bids"
    assert "Container" not in found["GeneratedBy"][0]
    assert str(tmp_path) not in json.dumps(found)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, {}),
        ({"APPTAINER_CONTAINER": "/home/me/blmm-1.sif"}, {"Type": "apptainer", "Tag": "blmm-1.sif"}),
        ({"SINGULARITY_CONTAINER": "/x/b.sif"}, {"Type": "singularity", "Tag": "b.sif"}),
        (
            {"APPTAINER_CONTAINER": "docker://lab/blmm:1.0"},
            {"Type": "apptainer", "URI": "docker://lab/blmm:1.0"},
        ),
        ({"BLMM_CONTAINER": "lab/blmm:1.0"}, {"Type": "docker", "Tag": "lab/blmm:1.0"}),
    ],
)
def test_container_entry__names_the_container(environment, wanted):
    assert container_entry(environment) == wanted


def test_write_description__writes_the_files_of_the_contract(tmp_path):
    out = tmp_path / "out"
    made = run(out, tmp_path / "in", environment={"APPTAINER_CONTAINER": "/x/b.sif"})
    written = [*write_description(made), *write_model_files(made)]
    assert [path.relative_to(out).as_posix() for path in written] == [
        "dataset_description.json",
        ".bidsignore",
        "README",
        "logs/settings.json",
        "code/model-growthStudy_smdl.json",
    ]
    assert (out / ".bidsignore").read_text().split() == ["node-*", "figures", "*.html"]
    assert json.loads((out / "logs/settings.json").read_text()) == {"formula": "y ~ 1 + age", "nprocs": 2}
    assert json.loads((out / "code/model-growthStudy_smdl.json").read_text())["Name"] == "growth study"


def test_input_uri__names_the_innermost_dataset(tmp_path):
    sources = {"": tmp_path, "prep": tmp_path / "derivatives" / "prep"}
    assert input_uri(tmp_path / "sub-1" / "a b.nii", sources) == "bids:source:sub-1/a%20b.nii"
    assert input_uri(tmp_path / "derivatives/prep/sub-1/a.nii", sources) == "bids:prep:sub-1/a.nii"
    assert input_uri(tmp_path.parent / "mask.nii", sources) == "mask.nii"


def test_source_names__never_hides_a_dataset(tmp_path):
    assert list(source_names({"": tmp_path, "source": tmp_path})) == ["sourceMain", "source"]
