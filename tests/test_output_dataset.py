"""OUTPUT_DIR as a dataset of many models: inputs and other hands' files are never written to, models stay."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from blmm_bids.cli import main
from blmm_bids.outputs.manifest import is_finished
from tests.datasets import describe, longitudinal

MODEL = ("--formula", "1 + time + (1 | subject)")
OTHER = ("--formula", "1 + time + sex + (1 | subject)")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return longitudinal(
        tmp_path_factory.mktemp("d") / "data", subjects=tuple(f"{n:02d}" for n in range(1, 7))
    )


@pytest.fixture(scope="module")
def finished(data):
    """One finished run; tests work on a copy."""
    out = data.parent / "finished"
    assert run(data, out, *MODEL, "--contrast", "twice=2*time") == 0
    return out


@pytest.fixture
def out(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def run(data, out, *arguments):
    return main([str(data), str(out), "group", "--nprocs", "1", *map(str, arguments)])


def snapshot(root):
    """Bytes of every file, and where links lead."""
    return {
        path.relative_to(root).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def maps(out, node="group"):
    return {path.name: path.read_bytes() for path in (out / f"node-{node}").glob("*") if path.is_file()}


# What is read is never written to -----------------------------------------------------------------


@pytest.fixture
def study(tmp_path):
    """A raw dataset with a derivative in it that has the images."""
    raw = tmp_path / "study"
    describe(raw, "raw")
    longitudinal(raw / "derivatives" / "maps", subjects=("01", "02", "03"))
    (raw / "README").write_text("the raw data's\n")
    (tmp_path / "link").symlink_to(raw)
    return raw


INSIDE_INPUT = {
    "BIDS_DIR itself": "study",
    "by a link": "link",
    "by dots": "study/derivatives/..",
    "a folder of it": "study/results",
    "its derivatives folder": "study/derivatives",
    "the derivative that is read": "study/derivatives/maps",
    "inside of the derivative": "study/derivatives/maps/node-x",
    "around it": ".",
}


@pytest.mark.parametrize("place", INSIDE_INPUT.values(), ids=INSIDE_INPUT.keys())
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["run", "dry"])
def test_app__never_writes_into_what_it_reads(study, tmp_path, capsys, place, more):
    before = snapshot(tmp_path)
    assert run(study, tmp_path / place, *MODEL, "-d", study / "derivatives" / "maps", *more) == 73
    said = capsys.readouterr().err
    assert "never written to" in said
    assert f"{'derivatives/blmm_bids'}" in said
    assert snapshot(tmp_path) == before


def test_app__writes_below_derivatives_of_what_it_reads(study):
    out = study / "derivatives" / "blmm_bids"
    assert run(study, out, *MODEL, "-d", study / "derivatives" / "maps") == 0
    assert (study / "README").read_text() == "the raw data's\n"


@pytest.mark.parametrize("place", ["study", "study/work"])
def test_app__keeps_its_working_files_out_of_what_it_reads(study, tmp_path, capsys, place):
    before = snapshot(study)
    arguments = ("-d", study / "derivatives" / "maps", "--work-dir", tmp_path / place)
    assert run(study, tmp_path / "out", *MODEL, *arguments) == 73
    assert "--work-dir" in capsys.readouterr().err
    assert snapshot(study) == before


# Other hands' files -------------------------------------------------------------------------------

FOREIGN = {
    "another pipeline": {"GeneratedBy": [{"Name": "fmriprep"}]},
    "a raw dataset": {"DatasetType": "raw"},
    "of an old standard": {"GeneratedBy": {"Name": "fmriprep"}},
    "nonsense": {"GeneratedBy": [1, None, "blmm_bids"]},
}


@pytest.mark.parametrize("content", [*map(json.dumps, FOREIGN.values()), "{", "[]", "[" * 100_000])
@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--overwrite",)], ids=["run", "dry", "overwrite"])
def test_app__leaves_another_pipelines_dataset_alone(data, tmp_path, capsys, content, more):
    out = tmp_path / "derivatives" / "prep"
    out.mkdir(parents=True)
    (out / "dataset_description.json").write_text(content)
    (out / ".bidsignore").write_text("mine\n")
    before = snapshot(tmp_path)
    assert run(data, out, *MODEL, *more) == 73
    said = capsys.readouterr().err
    assert f"{tmp_path}/derivatives/blmm_bids" in said
    assert snapshot(tmp_path) == before


SPARED = ("README", ".bidsignore", "logs/CITATION.md", "code/model-formula_smdl.json", "logs/settings.json")


def test_app__keeps_files_that_no_run_wrote(data, tmp_path, capsys):
    out = tmp_path / "out"
    for name in (*SPARED, "notes.txt", "index.html"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine\n")
    for _ in range(2):
        assert run(data, out, *MODEL) == 0
        said = capsys.readouterr().err
        assert [name for name in SPARED if (out / name).read_text() != "mine\n"] == []
        assert all(f"{out}/{name} is not of this software" in said for name in SPARED[:3])
    assert (out / "code" / "model-formula2_smdl.json").exists()
    assert run(data, out, "--formula", "1 + (1 | subject)", "--node-name", "b") == 0
    assert (out / "index.html").read_text() == "mine\n"


@pytest.mark.parametrize(
    "name", ["task-nback_space-MNI_stat-sigma2_statmap.nii.gz", "task-nback_space-MNI_design.tsv"]
)
@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--dry-run",)], ids=["run", "overwrite", "dry"])
def test_app__never_replaces_a_file_that_no_run_wrote(data, tmp_path, capsys, name, more):
    out = tmp_path / "out"
    mine = out / "node-group" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert run(data, out, *MODEL, *more) == 73
    assert name in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert not (out / "dataset_description.json").exists()


# A second model -----------------------------------------------------------------------------------


def test_app__a_second_model_stands_beside_the_first(data, out, capsys):
    before = snapshot(out)
    assert run(data, out, *OTHER, "--node-name", "with sex", "--threshold", "p<0.01") == 0
    said = capsys.readouterr().err
    assert "other models in OUTPUT_DIR stay as they are: group" in said
    after = snapshot(out)
    shared = {"README", "dataset_description.json", *(name for name in before if name.startswith("logs/"))}
    assert [name for name in before if name not in shared and after.get(name) != before[name]] == []
    assert after["logs/settings.json"] == before["logs/settings.json"]
    assert (out / "logs" / "settings2.json").exists()
    assert (
        json.loads((out / "code" / "model-formula2_smdl.json").read_text())["Nodes"][0]["Name"] == "with sex"
    )
    results = json.loads((out / "logs" / "results.json").read_text())
    assert [fit["node"] for each in results["Runs"] for fit in each["Fits"]] == ["group", "with sex"]
    assert results["Runs"][0]["Run"]["command"] != results["Runs"][1]["Run"]["command"]
    assert is_finished(out)
    readme = (out / "README").read_text()
    assert "- `node-group`: group, `1 + time + (1 | subject)`" in readme
    assert "- `node-withSex`: with sex, `1 + time + sex + (1 | subject)`" in readme
    methods = (out / "logs" / "CITATION.md").read_text()
    assert "`1 + time + (1 | subject)`" in methods
    assert "`1 + time + sex + (1 | subject)`" in methods
    index = (out / "index.html").read_text()
    assert 'href="node-group.html"' in index
    assert 'href="node-withSex.html"' in index
    # The log has both runs.
    log = (out / "logs" / "blmm_bids.log").read_bytes()
    assert log.startswith(before["logs/blmm_bids.log"])


def test_app__reports_only_makes_the_pages_of_all_models(data, out):
    assert run(data, out, *OTHER, "--node-name", "b") == 0
    pages = {path.name: path.read_bytes() for path in out.glob("*.html")}
    for path in out.glob("*.html"):
        path.unlink()
    assert run(data, out, "--reports-only") == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.html")} == pages


def test_compare__models_of_one_dataset(data, out, tmp_path, capsys):
    from blmm_bids.cli import main_compare

    assert run(data, out, "--formula", "1 + time + (1 + time | subject)", "--node-name", "slopes") == 0
    assert main_compare([f"{out}:group", f"{out}:slopes", str(tmp_path / "lrt")]) == 0
    # An unfinished model does not keep the others from being compared.
    listing = out / "logs" / "outputs.json"
    content = json.loads(listing.read_text())
    content["Fits"].append({**content["Fits"][0], "Label": "third", "Node": "third", "Finished": False})
    content["Finished"] = False
    listing.write_text(json.dumps(content))
    assert main_compare([f"{out}:group", f"{out}:slopes", str(tmp_path / "lrt")]) == 0
    assert main_compare([f"{out}:third", f"{out}:slopes", str(tmp_path / "lrt")]) in (64, 66)


DIFFERENT = {
    "formula": (
        OTHER,
        "the formula ('1 + time + (1 | subject)' before, now '1 + time + sex + (1 | subject)')",
    ),
    "images": ((*MODEL, "--exclude-participant-label", "06"), "3 images no longer used"),
    "options": ((*MODEL, "--min-percent", "0.9"), "the images that a voxel needs"),
    "weights": ((*MODEL, "--contrast", "twice=3*time"), "the weights of twice"),
    "zeros": ((*MODEL, "--zeros", "data"), "what 0 is ('missing' before, now 'data')"),
}


@pytest.mark.parametrize(("arguments", "words"), DIFFERENT.values(), ids=DIFFERENT.keys())
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["run", "dry"])
def test_app__refuses_another_model_under_the_same_name(data, out, capsys, arguments, words, more):
    before = snapshot(out)
    assert run(data, out, *arguments, *more) == 73
    said = capsys.readouterr().err
    assert words in said
    assert "--node-name" in said
    assert "--overwrite" in said
    after = snapshot(out)
    assert {name: after[name] for name in before if name != "logs/blmm_bids.log"} == {
        name: content for name, content in before.items() if name != "logs/blmm_bids.log"
    }


def test_app__overwrite_replaces_the_model_and_no_other(data, out, capsys):
    assert run(data, out, *OTHER, "--node-name", "b") == 0
    other, old = maps(out, "b"), maps(out)
    assert run(data, out, *OTHER, "--overwrite", "--dry-run") == 0
    assert "--overwrite: the model there is replaced" in capsys.readouterr().err
    assert maps(out) == old
    assert run(data, out, *OTHER, "--overwrite") == 0
    assert maps(out, "b") == other
    new = maps(out)
    assert not [name for name in new if "contrast-twice" in name]
    assert [name for name in new if "contrast-sex" in name]
    results = json.loads((out / "logs" / "results.json").read_text())
    assert sorted(fit["node"] for each in results["Runs"] for fit in each["Fits"]) == ["b", "group"]


def test_app__a_copy_elsewhere_is_the_same_data(data, out, tmp_path):
    copy = tmp_path / "copy of the data"
    shutil.copytree(data, copy, copy_function=shutil.copy)
    before = maps(out)
    assert run(copy, out, *MODEL, "--contrast", "twice=2*time") == 0
    assert {
        name for name, content in maps(out).items() if before[name] != content and name.endswith(".gz")
    } == set()


def test_app__changed_images_are_other_data(data, out, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    image = sorted(copy.rglob("*stat-effect_statmap.nii.gz"))[0]
    shutil.copy(sorted(copy.rglob("*stat-effect_statmap.nii.gz"))[1], image)
    assert run(copy, out, *MODEL, "--contrast", "twice=2*time") == 73
    assert f"1 image changed on disk ({image.name})" in capsys.readouterr().err


def test_app__one_contrast_more_adds_maps_and_deletes_none(data, out, capsys):
    before = maps(out)
    assert run(data, out, *MODEL, "--contrast", "twice=2*time", "--contrast", "thrice=3*time") == 0
    assert "contrasts are added to the same model: thrice" in capsys.readouterr().err
    after = maps(out)
    assert [name for name in before if name.endswith(".gz") and after[name] != before[name]] == []
    assert {name.split("_")[2] for name in set(after) - set(before)} == {"contrast-thrice"}


def test_app__one_contrast_fewer_deletes_none(data, out, capsys):
    before = maps(out)
    assert run(data, out, *MODEL, "--contrast", "thrice=3*time") == 0
    assert "contrasts that are there and not asked for now stay: twice" in capsys.readouterr().err
    after = maps(out)
    assert [name for name in before if name.endswith(".gz") and after[name] != before[name]] == []
    table = after["task-nback_space-MNI_desc-contrasts_design.tsv"].decode()
    assert [line.split("\t")[0] for line in table.splitlines()[1:]] == [
        "thrice",
        "Intercept",
        "time",
        "twice",
    ]
    page = (out / "node-group.html").read_text()
    assert "twice" in page
    assert "thrice" in page


def test_app__fewer_outputs_delete_none(data, out):
    before = maps(out)
    assert run(data, out, *MODEL, "--contrast", "twice=2*time", "--outputs", "minimal") == 0
    assert maps(out).keys() == before.keys()
    results = json.loads((out / "logs" / "results.json").read_text())
    files = {each["file"] for each in results["Runs"][0]["Fits"][0]["maps"]}
    assert files == {name for name in before if name.endswith(".nii.gz")}


def test_app__an_unfinished_run_of_the_same_model_continues(data, out):
    before = maps(out)
    listing = json.loads((out / "logs" / "outputs.json").read_text())
    listing["Finished"] = listing["Fits"][0]["Finished"] = False
    (out / "logs" / "outputs.json").write_text(json.dumps(listing))
    sorted((out / "node-group").glob("*.nii.gz"))[0].unlink()
    assert run(data, out, *MODEL, "--contrast", "twice=2*time") == 0
    assert maps(out).keys() == before.keys()
    assert is_finished(out)


@pytest.mark.parametrize("has_maps", [True, False])
def test_app__an_unfinished_run_of_another_model(data, out, has_maps):
    listing = json.loads((out / "logs" / "outputs.json").read_text())
    listing["Finished"] = listing["Fits"][0]["Finished"] = False
    (out / "logs" / "outputs.json").write_text(json.dumps(listing))
    if not has_maps:
        shutil.rmtree(out / "node-group")
    assert run(data, out, *OTHER) == (73 if has_maps else 0)


def test_app__a_dataset_of_an_earlier_version(data, out, capsys):
    """A list of files alone, and one run in results.json."""
    listing = json.loads((out / "logs" / "outputs.json").read_text())
    old = {"Finished": True, "Failures": [], "Files": listing["Files"]}
    (out / "logs" / "outputs.json").write_text(json.dumps(old))
    results = json.loads((out / "logs" / "results.json").read_text())
    entry = results["Runs"][0]
    del entry["Run"]["settings_file"]
    (out / "logs" / "results.json").write_text(json.dumps({"Format": 1, **entry}))
    before = maps(out)
    assert run(data, out, "--reports-only") == 0
    assert run(data, out, *MODEL) == 73
    assert "kept no record" in capsys.readouterr().err
    assert run(data, out, *OTHER, "--node-name", "b") == 0
    assert maps(out) == before
    results = json.loads((out / "logs" / "results.json").read_text())
    assert [fit["node"] for each in results["Runs"] for fit in each["Fits"]] == ["group", "b"]
    assert run(data, out, *MODEL, "--overwrite") == 0


def spec(path, *groups, **node):
    content = {
        "Name": "groups",
        "BIDSModelVersion": "1.0.0",
        "Input": {"suffix": ["statmap"], "stat": ["effect", "variance"][: max(len(groups), 1)]},
        "Nodes": [
            {
                "Level": "Dataset",
                "Name": "g",
                "GroupBy": list(groups),
                "Model": {"Type": "glm", "X": [1, "time"], "Formula": "1 + time"},
                "DummyContrasts": {"Test": "t"},
                **node,
            }
        ],
    }
    path.write_text(json.dumps(content))
    return path


def test_app__another_group_is_added_to_its_node(tmp_path, capsys):
    data = longitudinal(tmp_path / "data", subjects=("01", "02", "03"), contrasts=("face", "house"))
    out, model = tmp_path / "out", spec(tmp_path / "model.json", "contrast")
    filtered = tmp_path / "filter.json"
    filtered.write_text(json.dumps({"contrast": "face"}))
    assert run(data, out, "--model", model, "--bids-filter-file", filtered) == 0
    before = maps(out, "g")
    assert run(data, out, "--model", model) == 0
    after = maps(out, "g")
    assert [name for name in before if after[name] != before[name] and name.endswith(".gz")] == []
    assert len(after) == 2 * len(before)
    assert run(data, out, "--model", model, "--bids-filter-file", filtered) == 0
    assert maps(out, "g").keys() == after.keys()
    page = (out / "node-g.html").read_text()
    assert "contrast face" in page
    assert "contrast house" in page
    assert run(data, out, "--model", spec(tmp_path / "b.json"), "--bids-filter-file", filtered) == 73
    assert "GroupBy (contrast before, now none)" in capsys.readouterr().err


def test_app__node_name_is_for_a_formula(data, tmp_path, capsys):
    model = spec(tmp_path / "model.json")
    assert run(data, tmp_path / "out", "--model", model, "--node-name", "x") == 64
    assert "--node-name" in capsys.readouterr().err
    assert run(data, tmp_path / "out", "--formula", "1 + (1 | subject)", "--node-name", "../x") == 0
    assert (tmp_path / "out" / "node-x").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "out"]


# Links and names that lead elsewhere --------------------------------------------------------------

LINKS = ("logs", "code", "node-group", "node-group/figures", "logs/blmm_bids.log", "README", ".work")


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["run", "dry"])
def test_app__follows_no_link_below_output_dir(data, tmp_path, capsys, name, more):
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    if "." in name[1:] or name == "README":
        elsewhere.write_text("mine")
    else:
        elsewhere.mkdir()
    link.symlink_to(elsewhere)
    assert run(data, tmp_path / "out", *MODEL, *more) == 73
    assert f"{link} is a link that leads out of OUTPUT_DIR, to {elsewhere}" in capsys.readouterr().err
    assert elsewhere.read_text() == "mine" if elsewhere.is_file() else not list(elsewhere.iterdir())


def test_app__output_dir_itself_may_be_a_link(data, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    assert run(data, tmp_path / "out", *MODEL) == 0
    assert (tmp_path / "real" / "node-group").is_dir()
    assert run(data, tmp_path / "out", "--reports-only") == 0


EVIL = {
    "directory": lambda fit: fit.update(directory="../evil"),
    "absolute": lambda fit: fit.update(directory="/tmp/evil"),
    "other folder": lambda fit: fit.update(directory="logs"),
    "map": lambda fit: fit["maps"][0].update(file="../../evil/x.nii.gz"),
    "table": lambda fit: fit["tables"].append("../../evil/x.tsv"),
    "stem": lambda fit: fit["stem"].update(task="../evil"),
    "type": lambda fit: fit.update(directory=7),
}


@pytest.mark.parametrize("change", EVIL.values(), ids=EVIL.keys())
def test_reports_only__stays_inside_whatever_the_results_say(data, out, tmp_path, capsys, change):
    (tmp_path / "evil").mkdir()
    path = out / "logs" / "results.json"
    content = json.loads(path.read_text())
    change(content["Runs"][0]["Fits"][0])
    path.write_text(json.dumps(content))
    before = snapshot(tmp_path)
    assert run(data, out, "--reports-only") == 65
    said = capsys.readouterr().err
    assert "results.json" in said
    assert "Traceback" not in said
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["node-group", "node-group/figures", "logs", "node-group.html"])
def test_reports_only__follows_no_link(data, out, tmp_path, name):
    place = out / name
    shutil.move(place, tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    before = snapshot(tmp_path)
    assert run(data, out, "--reports-only") == 73
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("text", ["[" * 100_000, '{"Format": ' + "[" * 100_000, "{}", "null"])
def test_reports_only__of_a_damaged_file(data, out, capsys, text):
    (out / "logs" / "results.json").write_text(text)
    assert run(data, out, "--reports-only") == 65
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def patience():
    """A test that waits for ever fails."""

    def give_up(*_):
        pytest.fail("still waiting")

    earlier = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, earlier)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("kind", ["a named pipe", "a device"])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("dataset_description.json", MODEL),
        ("logs/outputs.json", MODEL),
        (".work/blmm_workdir.json", MODEL),
        ("logs/results.json", ("--reports-only",)),
    ],
)
def test_app__waits_for_no_pipe_or_device_in_output_dir(data, out, capsys, name, more, kind):
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).unlink(missing_ok=True)
    if kind == "a device":
        (out / name).symlink_to("/dev/zero")
    else:
        os.mkfifo(out / name)
    assert run(data, out, *more) in (66, 73)
    text = capsys.readouterr().err
    assert Path(name).name in text
    assert kind in text or "leads out of OUTPUT_DIR" in text


# What fails after the fit -------------------------------------------------------------------------

STEPS = {
    "peaks": ("blmm_bids.app.bids_app.keep_peaks", "clusters and peaks of node 'group'"),
    "report": ("blmm_bids.report.page.render_page", "report of node-group"),
    "figures": ("blmm_bids.report.page.open_canvas", "report of node-group"),
    "methods": ("blmm_bids.report.page.write_citations", "report of node-group"),
    "clusters": ("blmm_bids.app.peaks.write_clusters", "clusters and peaks of node 'group'"),
}


@pytest.mark.parametrize(
    "error", [IndexError("list index out of range"), ValueError("x")], ids=["index", "value"]
)
@pytest.mark.parametrize(("place", "words"), STEPS.values(), ids=STEPS.keys())
def test_app__what_fails_after_the_fit_costs_nothing(
    data, finished, tmp_path, capsys, monkeypatch, place, words, error
):
    """A fault is put in by hand: the faults that are known are mended."""

    def fail(*_, **__):
        raise error

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        assert run(data, out, *MODEL, "--contrast", "twice=2*time") == 1
    said = capsys.readouterr().err
    assert f"{words} failed: {type(error).__name__}: {error}" in said
    assert "--reports-only" in said
    assert "Traceback" not in said
    assert is_finished(out)
    assert run(data, out, "--reports-only") == 0
    wanted = {name: content for name, content in maps(finished).items() if "figures" not in name}
    assert maps(out) == wanted
    assert (out / "node-group.html").exists()


def test_app__lists_each_cluster_with_a_summit_whatever_its_shape(data, tmp_path):
    assert run(data, tmp_path / "out", *MODEL, "--threshold", "p<0.9", "--cluster-min", "1") == 0
    assert Path(tmp_path / "out" / "node-group.html").exists()
