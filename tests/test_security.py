"""No one gets in: nothing from input is evaluated, no name leads out of OUTPUT_DIR, no text is markup."""

from __future__ import annotations

import ast
import json
import os
import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from blmm_bids.cli import main
from tests.datasets import longitudinal, write_tsv

PACKAGE = Path(__file__).resolve().parents[1] / "blmm_bids"
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "xml",
    "telnetlib",
}
FORBIDDEN_ATTRIBUTES = {
    "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader",
    "yaml.UnsafeLoader", "yaml.FullLoader", "pd.eval", "pd.read_pickle", "tempfile.mktemp", "np.fromstring",
}  # fmt: skip


def _offences(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                yield node.func.id
            for word in node.keywords:
                is_true = not (isinstance(word.value, ast.Constant) and word.value.value is False)
                # A method of our own may hand on what a scheduler's client was asked for.
                is_handed_on = ast.unparse(node).endswith(".call(cmd, shell=shell)")
                if word.arg in ("shell", "allow_pickle") and is_true and not is_handed_on:
                    yield f"{word.arg}="
            keywords = {word.arg for word in node.keywords}
            if ast.unparse(node.func) in ("np.load", "numpy.load") and "allow_pickle" not in keywords:
                yield "np.load without allow_pickle=False"
        if isinstance(node, ast.Attribute):
            yield from {f"{ast.unparse(node.value)}.{node.attr}"} & FORBIDDEN_ATTRIBUTES
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name for name in names if name.partition(".")[0] in FORBIDDEN_MODULES)


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix()
)
def test_source__evaluates_nothing(path):
    assert list(_offences(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    ["eval('1')", "subprocess.run(x, shell=True)", "import pickle", "from pickle import loads",
     "yaml.load(x)", "np.load(x)", "np.load(x, allow_pickle=True)", "os.system(x)", "pd.eval(x)"],
)  # fmt: skip
def test_source__the_check_finds_what_it_looks_for(code):
    assert list(_offences(ast.parse(code)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return longitudinal(tmp_path_factory.mktemp("security") / "data")


ESCAPES = [
    "().__class__.__bases__[0].__subclasses__()",
    "{().__class__}",
    "__import__('os').system('touch {mark}')",
    "I(__import__('os').system('touch {mark}'))",
    "{open('{mark}', 'w')}",
    "[open('{mark}', 'w') for x in (1,)]",
    "(lambda: open('{mark}', 'w'))()",
    "log(time.__class__)",
    "time.to_csv('{mark}')",
    "I(time.to_pickle('{mark}'))",
    "C(subject, contr.__init__.__globals__)",
    "getattr(time, 'to_csv')('{mark}')",
    "exec('x')",
    "center(time, by=open('{mark}', 'w'))",
    "poly(time, degree=open('{mark}', 'w'))",
    "`time`.to_csv('{mark}')",
    "time; import os",
    "time + (1 | open('{mark}', 'w'))",
    "time + (1 + time.to_csv('{mark}') | subject)",
    "f'{open(1)}'",
    "(x := open('{mark}', 'w'))",
    "np.save('{mark}', time)",
    "Q('time').to_csv('{mark}')",
    "stateful_transform(open)",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_formula__lets_nothing_out(data, tmp_path, capsys, text):
    mark = tmp_path / "mark"
    text = text.replace("{mark}", str(mark))
    arguments = [str(data), str(tmp_path / "out"), "group", "--quiet", "--nprocs", "1"]
    for more in (["--formula", text], ["--formula", "1 + time", "--contrast", f"c={text}"]):
        assert main([*arguments, *more]) == 64, text
        assert "Traceback" not in capsys.readouterr().err
    assert not list(tmp_path.rglob("mark*"))


def test_filter__lets_nothing_out(data, tmp_path):
    mark = tmp_path / "mark"
    for number, query in enumerate(
        ["age > __import__('os').system('x')", f"@open('{mark}', 'w')", "a.__class__ == 1"]
    ):
        instruction = {"Name": "Filter", "Input": ["time"], "Query": query}
        node = {
            "Level": "Dataset", "Name": "g", "Model": {"X": [1, "time"], "Formula": "1 + time"},
            "Transformations": {"Transformer": "pybids-transforms-v1", "Instructions": [instruction]},
        }  # fmt: skip
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({"Name": "m", "BIDSModelVersion": "1.0.0", "Nodes": [node]}))
        assert main([str(data), str(tmp_path / "out"), "group", "--model", str(path)]) == 64
    assert not mark.exists()


# Names -------------------------------------------------------------------------------------------

HOSTILE = [
    "../../evil",
    "/etc/evil",
    "..",
    "evil\x00",
    "$(touch evil)",
    "con\nfig",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_outputs__stay_in_output_dir_whatever_the_labels(data, tmp_path, name):
    root = longitudinal(tmp_path / "in" / "data")
    safe = name.replace("\n", " ").replace("\t", " ")
    people = "".join(
        f"sub-0{number}\t{safe if number % 2 else 'b'}{number // 3}\n" for number in (1, 2, 3, 4)
    )
    (root / "participants.tsv").write_text(f"participant_id\tteam\n{people}")
    node = {
        "Level": "Dataset", "Name": f"{name}x", "DummyContrasts": {"Test": "t"},
        "Model": {"X": [1, "team"], "Formula": "1 + team + (1 | session)"},
        "Contrasts": [{"Name": f"{name}y", "ConditionList": ["Intercept"], "Weights": [1], "Test": "t"}],
    }  # fmt: skip
    spec = {"Name": f"{name}z", "Description": name, "BIDSModelVersion": "1.0.0", "Nodes": [node]}
    (tmp_path / "in" / "spec.json").write_text(json.dumps(spec))
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "far" / "down" / "out"
    arguments = [
        "--model",
        str(tmp_path / "in" / "spec.json"),
        "--outputs",
        "full,ranef,residuals",
        "--quiet",
    ]
    assert main([str(root), str(out), "group", *arguments, "--nprocs", "1"]) in (0, 64)
    new = {path for path in tmp_path.rglob("*") if path not in before}
    assert all(path == out or out in path.parents or path in out.parents for path in new)
    assert all(re.fullmatch(r"[\w.+-]+", path.name) for path in out.rglob("*"))
    assert not Path("evil").exists()


# Markup ------------------------------------------------------------------------------------------

SCRIPTS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}",
    "<!--",
    "]]>",
]


class _Elements(HTMLParser):
    """Tags with their attributes, and the text of scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.handlers, self.scripts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, text):
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(text)


def page_of(root, out, team, name):
    people = [f"sub-0{number}\t{team if number % 2 else 'plain'}" for number in (1, 2, 3, 4)]
    (root / "participants.tsv").write_text("participant_id\tteam\n" + "\n".join(people) + "\n")
    node = {
        "Level": "Dataset", "Name": "g", "DummyContrasts": {"Test": "t"},
        "Model": {"X": [1, "team"], "Formula": "1 + team + (1 | subject)"},
        "Contrasts": [{"Name": f"c {name}", "ConditionList": ["Intercept"], "Weights": [1], "Test": "t"}],
    }  # fmt: skip
    spec = {"Name": f"n {name}", "Description": name, "BIDSModelVersion": "1.0.0", "Nodes": [node]}
    (root.parent / "spec.json").write_text(json.dumps(spec))
    assert (
        main(
            [
                str(root),
                str(out),
                "group",
                "--model",
                str(root.parent / "spec.json"),
                "--quiet",
                "--nprocs",
                "1",
            ]
        )
        == 0
    )
    (page,) = out.glob("node-*.html")
    elements = _Elements()
    elements.feed(page.read_text(encoding="utf-8"))
    return elements


def test_page__takes_no_markup_from_names_and_tables(tmp_path):
    place, text = tmp_path / "<script>alert(1)<", " ".join(SCRIPTS)
    # As long, since the room that a name takes decides how charts are laid out, and as early in the alphabet.
    harmless = re.sub(r"\W", "a", text)
    plain = page_of(longitudinal(tmp_path / "a" / "data"), tmp_path / "a" / "out", harmless, harmless)
    found = page_of(longitudinal(place / "data"), place / "out", text, text)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    assert found.handlers == plain.handlers
    assert not [script for script in found.scripts if "alert(1)</" in script or "<!--" in script]
    # The template language of the page is not applied to what is put into it.
    assert "{{ 7 * 7 }}" in next((place / "out").glob("node-*.html")).read_text(encoding="utf-8")


# Privacy -----------------------------------------------------------------------------------------


def test_outputs__hold_no_secrets_and_no_paths_of_the_user(tmp_path, monkeypatch):
    secret = "hunter2-4711"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("MY_TOKEN", secret)
    home = tmp_path / "home" / "jdoe"
    root = longitudinal(home / "study" / "data")
    # A table whose warning names it, with its path.
    write_tsv(root / "phenotype" / "odd.tsv", "participant_id odd", "sub-01 3", "sub-02 three")
    out = home / "study" / "out"
    arguments = ["--formula", "1 + time + (1 | subject)", "--work-dir", str(home / "scratch")]
    assert main([str(root), str(out), "group", *arguments, "--nprocs", "1"]) == 0
    for path in out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert secret.encode() not in content, path
            assert b"jdoe" not in content, path


def test_work_dir__is_the_users_alone(tmp_path):
    root, work = longitudinal(tmp_path / "data"), tmp_path / "work"
    old = os.umask(0)
    try:
        arguments = ["--formula", "1 + time", "--work-dir", str(work), "--nprocs", "1", "--quiet"]
        assert main([str(root), str(tmp_path / "out"), "group", *arguments]) == 0
    finally:
        os.umask(old)
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in work.iterdir() if path.is_dir())
    assert np.all([path.stat().st_uid == os.geteuid() for path in work.rglob("*")])


def test_config__takes_labels_as_text(tmp_path):
    """Labels that spreadsheets and shells would run are text here."""
    root = longitudinal(tmp_path / "data")
    write_tsv(
        root / "participants.tsv", "participant_id team", *(f"sub-0{n} =cmd|{n % 2}" for n in (1, 2, 3, 4))
    )
    arguments = ["--formula", "1 + team + (1 | subject)", "--quiet", "--nprocs", "1"]
    assert main([str(root), str(tmp_path / "out"), "group", *arguments]) == 0
