from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from blmm_bids.bids.roots import find_roots, read_json
from blmm_bids.errors import InvalidBIDSError, MissingInputError, UsageError
from tests.datasets import describe, write_json, write_text


def test_find_roots__derivatives_dataset_holds_images(tmp_path):
    links = {"prep": "../fmriprep", "remote": "doi:10.18112/x", "uri": "file:///data/a%20b"}
    (root,) = find_roots(describe(tmp_path / "glm", DatasetLinks=links), ())
    assert (root.name, root.path, root.has_images) == ("", tmp_path / "glm", True)
    assert root.linked_path("prep") == tmp_path / "glm" / "../fmriprep"
    assert root.linked_path("uri").as_posix() == "/data/a b"
    assert root.linked_path("remote") is None
    assert root.linked_path("other") is None


def test_find_roots__raw_dataset_with_derivatives_gives_tables_only(tmp_path):
    raw = describe(tmp_path / "raw", "raw")
    first, second = describe(tmp_path / "x" / "glm"), describe(tmp_path / "y" / "glm")
    roots = find_roots(raw, ((None, first), (None, second), ("named", describe(tmp_path / "z"))))
    assert [(root.name, root.has_images) for root in roots] == [
        ("", False), ("glm", True), ("glm2", True), ("named", True),
    ]  # fmt: skip


def test_find_roots__paths_are_absolute(tmp_path, monkeypatch):
    describe(tmp_path / "glm")
    monkeypatch.chdir(tmp_path)
    (root,) = find_roots(Path("glm"), ())
    assert root.path == tmp_path / "glm"


def test_find_roots__raw_dataset_alone_is_refused_with_the_way_out(tmp_path):
    raw = describe(tmp_path / "raw", "raw")
    glm = describe(raw / "derivatives" / "glm")
    with pytest.raises(InvalidBIDSError, match=f"--derivatives {glm}.*--skip-bids-validation"):
        find_roots(raw, ())
    (root,) = find_roots(raw, (), skip_validation=True)
    assert root.has_images


@pytest.mark.parametrize(
    ("description", "is_raw"),
    [
        ({"Name": "x"}, True),
        ({"Name": "x", "PipelineDescription": {"Name": "y"}}, False),
        ({"Name": "x", "GeneratedBy": [{"Name": "y"}]}, False),
        ({"Name": "x", "DatasetType": "raw", "GeneratedBy": [{"Name": "y"}]}, True),
        ({"Name": "x", "DatasetType": "study"}, True),
    ],
)
def test_find_roots__tells_raw_from_derivative(tmp_path, description, is_raw):
    write_json(tmp_path / "dataset_description.json", description)
    if is_raw:
        with pytest.raises(InvalidBIDSError, match="raw dataset"):
            find_roots(tmp_path, ())
    else:
        assert find_roots(tmp_path, ())[0].has_images


def test_find_roots__without_description(tmp_path):
    describe(tmp_path / "glm")
    with pytest.raises(InvalidBIDSError, match=f"no dataset_description.json.*{tmp_path}/glm"):
        find_roots(tmp_path, ())
    assert find_roots(tmp_path, (), skip_validation=True)[0].has_images
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidBIDSError, match=r"The derivatives: .*empty has no"):
        find_roots(tmp_path / "glm", ((None, tmp_path / "empty"),))


@pytest.mark.parametrize("where", ["bids_dir", "derivatives"])
def test_find_roots__absent_or_no_directory(tmp_path, where):
    good = describe(tmp_path / "glm")
    for path, said in (
        (tmp_path / "nowhere", "does not exist"),
        (write_text(tmp_path / "f", ""), "is a file"),
    ):
        arguments = (path, ()) if where == "bids_dir" else (good, ((None, path),))
        with pytest.raises(MissingInputError, match=said):
            find_roots(*arguments)


def test_find_roots__same_name_twice_and_bids_dir_named_again(tmp_path):
    raw, first, second = describe(tmp_path / "raw", "raw"), describe(tmp_path / "a"), describe(tmp_path / "b")
    with pytest.raises(UsageError, match="'x' twice"):
        find_roots(raw, (("x", first), ("x", second)))
    (root,) = find_roots(raw, ((None, raw),))
    assert root.has_images


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (b'{\n "a": 1,\n}', InvalidBIDSError, "line 3: not valid JSON"),
        (b'{\n "a": "\xff"}', InvalidBIDSError, "line 2: not UTF-8"),
        (b"[1]", InvalidBIDSError, "JSON list"),
        (None, MissingInputError, "cannot be read"),
    ],
)
def test_read_json__names_file_and_line(tmp_path, content, error, said):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=rf"x\.json.*{said}"):
        read_json(path)


def test_read_json__accepts_a_byte_order_mark(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}


def test_find_roots__directory_that_cannot_be_read():
    with tempfile.TemporaryDirectory() as folder:
        root = describe(Path(folder) / "glm")
        Path(folder).chmod(0o755)
        root.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(MissingInputError, match=r"cannot be read \(Permission denied\)"):
                find_roots(root, ())
        finally:
            os.seteuid(user)
            root.chmod(0o755)
