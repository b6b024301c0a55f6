"""The Boutiques descriptor: what the parser says, what ``bosh`` makes of it, and runs that it starts."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import boutiques
import pytest
from boutiques.validator import validate_descriptor

from blmm_bids.cli import app_parser, main
from blmm_bids.descriptor import EXAMPLE, descriptor_text, error_codes, make_descriptor
from blmm_bids.errors import BlmmError
from demo.dataset import write_dataset
from tests.datasets import longitudinal

CHECKOUT = Path(__file__).resolve().parents[1]
COMMITTED = CHECKOUT / "boutiques" / "blmm_bids.json"
BIN = Path(sys.executable).parent
VALUES = {"String": "text", "File": "file.json", "Number": 1, "Flag": True}
REQUIRED = {"InputDataset": "in", "OutputLocation": "out", "AnalysisLevel": "group"}
# What stops the app before it looks at anything else.
STOPS = {"Help", "ToolVersion"}
MODEL = ("Model", "Formula")


@pytest.fixture(scope="module")
def descriptor():
    return make_descriptor(app_parser())


def bosh(*words, cwd):
    """Run ``bosh`` as a platform does, with the app on the PATH."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(cwd)}
    command = [BIN / "bosh", *map(str, words)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def test_descriptor__is_the_committed_one():
    committed = COMMITTED.read_text(encoding="utf-8")
    assert committed == descriptor_text(app_parser()), "run `make boutiques` and commit what it changes"


def test_exec_spec__prints_the_descriptor(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--bids-exec-spec"])
    assert not stop.value.code
    assert capsys.readouterr().out == descriptor_text(app_parser())


def test_bosh_validate__accepts_it(tmp_path):
    done = bosh("validate", COMMITTED, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_descriptor__has_every_option_with_a_text_and_in_a_group(descriptor):
    text = app_parser().format_help()
    # "-t, --task-label, --task-id LABEL": any of an option's names will do.
    lines = re.findall(r"^  (-.*?)(?:  |$)", text, flags=re.MULTILINE)
    flags = {entry.get("command-line-flag") for entry in descriptor["inputs"]}
    missing = [line for line in lines if not flags & set(re.findall(r"--[\w-]+", line))]
    assert [line.strip() for line in missing] == ["--bids-exec-spec"]
    assert [entry["id"] for entry in descriptor["inputs"] if not entry["description"]] == []
    titled = [group for group in descriptor["groups"] if not group.get("mutually-exclusive")]
    grouped = [member for group in titled for member in group["members"]]
    assert sorted(grouped) == sorted(entry["id"] for entry in descriptor["inputs"])


def test_descriptor__has_what_the_execution_specification_asks_for(descriptor):
    inputs = {entry["id"]: entry for entry in descriptor["inputs"]}
    assert inputs.keys() >= {"InputDataset", "OutputLocation", "AnalysisLevel", "Help", "ToolVersion"}
    assert inputs.keys() >= {"SubjectLabel", "SessionLabel", "TaskLabel"}
    assert inputs["AnalysisLevel"]["value-choices"] == ["group", "dataset"]
    assert descriptor["command-line"].startswith("blmm-bids [InputDataset] [OutputLocation] [AnalysisLevel] ")
    assert {"BIDSApplicationVersion", "cbrain:readonly-input-files"} <= descriptor["custom"].keys()


def test_error_codes__are_those_of_the_errors(descriptor):
    kinds, codes = [BlmmError], set()
    while kinds:
        kind = kinds.pop()
        codes.add(kind.exit_code)
        kinds += kind.__subclasses__()
    assert {entry["code"] for entry in descriptor["error-codes"]} == codes
    assert all(re.fullmatch(r"[A-Z].*\.", text) for text in error_codes().values())
    assert error_codes()[64] == "The command line or an option's value is wrong."


def test_simulate__every_input_becomes_words_that_the_parser_takes(descriptor, tmp_path):
    parser, invocation = app_parser(), tmp_path / "invocation.json"
    for entry in descriptor["inputs"]:
        if entry["id"] in STOPS:
            continue
        # The last choice is nobody's default.
        value = entry.get("value-choices", [VALUES[entry["type"]]])[-1]
        model = {} if entry["id"] in MODEL else {"Formula": "1"}
        without = vars(parser.parse_args([*REQUIRED.values(), *(["--formula", "1"] if model else [])]))
        inputs = {**REQUIRED, **model, entry["id"]: [value, value] if entry.get("list") else value}
        invocation.write_text(json.dumps(inputs))
        command = boutiques.execute("simulate", str(COMMITTED), "-i", str(invocation)).stdout
        args = vars(parser.parse_args(shlex.split(command)[1:]))
        assert len([name for name in args if args[name] != without[name]]) == 1, command


@pytest.mark.parametrize(
    ("given", "is_valid"), [((), False), (("Model",), True), (("Formula",), True), (MODEL, False)]
)
def test_bosh__wants_a_model_or_a_formula(tmp_path, given, is_valid):
    (tmp_path / "model.json").write_text("{}")
    inputs = {**REQUIRED, **dict.fromkeys(given, "model.json")}
    (tmp_path / "invocation.json").write_text(json.dumps(inputs))
    done = bosh("invocation", COMMITTED, "-i", "invocation.json", cwd=tmp_path)
    assert (done.returncode == 0) == is_valid, done.stdout + done.stderr


@pytest.mark.parametrize("more", [(), ("--complete",)])
def test_bosh_example__makes_what_the_app_takes(tmp_path, more):
    done = bosh("example", *more, COMMITTED, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(set(MODEL) & json.loads(done.stdout).keys()) == 1


def test_simulate__quotes_formulas_and_repeats_contrasts(tmp_path):
    invocation = tmp_path / "invocation.json"
    formula, contrasts = "1 + age*sex + (1 | subject)", ["a=age - 2*time", "b=sex[T.M];age"]
    invocation.write_text(
        json.dumps({**REQUIRED, "Formula": formula, "Contrast": contrasts, "NoResume": True})
    )
    done = bosh("exec", "simulate", "-i", invocation, COMMITTED, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    command = next(line for line in done.stdout.splitlines() if line.startswith("blmm-bids "))
    args = app_parser().parse_args(shlex.split(command)[1:])
    assert (args.formula, args.contrast, args.resume) == (formula, contrasts, False)


@pytest.mark.parametrize(
    ("formula", "expect"), [("1 + time + (1 | subject)", 0), ("1 + nosuchcolumn + (1 | subject)", 64)]
)
def test_launch__runs_the_app_and_passes_its_exit_code_on(tmp_path, formula, expect):
    longitudinal(tmp_path / "in", subjects=("01", "02", "03", "04"), sessions=("01", "02", "03"))
    invocation = tmp_path / "invocation.json"
    invocation.write_text(json.dumps({**REQUIRED, "Formula": formula, "Nprocs": 1}))
    done = bosh(
        "exec", "launch", "--no-container", "--skip-data-collection", COMMITTED, invocation, cwd=tmp_path
    )
    assert done.returncode == expect, done.stdout + done.stderr
    if expect:
        assert "nosuchcolumn" in done.stdout + done.stderr
    else:
        assert list((tmp_path / "out").glob("node-*/*_stat-beta_statmap.nii.gz"))
        assert "out/dataset_description.json" in done.stdout


def test_invocation__is_the_first_of_the_tests(descriptor):
    committed = json.loads((CHECKOUT / "boutiques" / "invocation.json").read_text(encoding="utf-8"))
    assert committed == EXAMPLE == descriptor["tests"][0]["invocation"]


@pytest.mark.slow
def test_tests__hold_on_the_demo(descriptor, tmp_path):
    write_dataset(tmp_path / "demo-out" / "dataset")
    (tmp_path / "demo").mkdir()
    shutil.copy(CHECKOUT / "demo" / "model.json", tmp_path / "demo")
    paths = {entry["id"]: entry["path-template"] for entry in descriptor["output-files"]}
    for case in descriptor["tests"]:
        invocation, assertions = tmp_path / "invocation.json", case["assertions"]
        invocation.write_text(json.dumps(case["invocation"]))
        done = bosh(
            "exec", "launch", "--no-container", "--skip-data-collection", COMMITTED, invocation, cwd=tmp_path
        )
        assert done.returncode == assertions["exit-code"], done.stdout + done.stderr
        for entry in assertions.get("output-files", ()):
            path = paths[entry["id"]].replace("[OutputLocation]", case["invocation"]["OutputLocation"])
            assert (tmp_path / path).exists(), path


OPTIONS = {
    "--number": ({"type": int}, {"type": "Number", "integer": True}),
    "--real": ({"type": float}, {"type": "Number"}),
    "--file": ({"type": Path}, {"type": "File"}),
    "--work-dir": ({"type": Path}, {"type": "String"}),
    "--choice": ({"choices": ("a", "b")}, {"type": "String", "value-choices": ["a", "b"]}),
    "--braces": ({"metavar": "{c,d}"}, {"value-choices": ["c", "d"]}),
    "--parsed": ({"type": shlex.split}, {"type": "String"}),
    "--switch": ({"action": "store_true"}, {"type": "Flag"}),
    "--louder": ({"action": "count"}, {"type": "Flag"}),
    "--many": ({"nargs": "+"}, {"list": True}),
    "--extended": ({"nargs": "+", "action": "extend"}, {"list": True}),
    "--again": ({"action": "append"}, {"list": True, "list-separator": " --again "}),
    "--pair": ({"nargs": 2, "type": float}, {"list": True, "type": "Number"}),
    "--perhaps": ({"nargs": "?"}, {"type": "String"}),
    "--wanted": ({"required": True}, {"optional": False}),
    "--share": ({"default": 5, "help": "%% (now: %(default)s)"}, {"description": "% (now: 5)"}),
    "--on": ({"action": argparse.BooleanOptionalAction}, {"type": "Flag", "command-line-flag": "--on"}),
}  # fmt: skip


def parser_with(**options):
    parser = argparse.ArgumentParser(prog="other", description="Another app.")
    parser.add_argument("output_dir", type=Path, help="where to")
    group = parser.add_argument_group("things")
    for name, keywords in options.items():
        group.add_argument(name, **{"help": "some", **keywords})
    return parser


@pytest.mark.parametrize("name", OPTIONS)
def test_make_descriptor__takes_what_argparse_says(name):
    keywords, expected = OPTIONS[name]
    made = make_descriptor(parser_with(**{name: keywords}))
    del made["tests"]
    validate_descriptor(json.loads(json.dumps(made)))
    entry = next(each for each in made["inputs"] if each.get("command-line-flag") == name)
    assert entry.items() >= expected.items() or entry == expected
    assert made["groups"][-1] == {"id": "ThingsGroup", "name": "Things", "members": [entry["id"]]}


def test_make_descriptor__says_how_to_switch_off_what_is_on():
    on = {"action": argparse.BooleanOptionalAction, "default": True}
    entry = make_descriptor(parser_with(**{"--resume": on}))["inputs"][-1]
    assert (entry["id"], entry["command-line-flag"]) == ("NoResume", "--no-resume")


def test_make_descriptor__knows_exclusive_options_and_hidden_ones():
    parser = parser_with(**{"--hidden": {"help": argparse.SUPPRESS}})
    either = parser.add_argument_group("which").add_mutually_exclusive_group(required=True)
    either.add_argument("--model", help="this")
    either.add_argument("--formula", help="or that")
    made = make_descriptor(parser)
    del made["tests"]
    validate_descriptor(json.loads(json.dumps(made)))
    assert "Hidden" not in [entry["id"] for entry in made["inputs"]]
    rules = {"members": ["Model", "Formula"], "mutually-exclusive": True, "one-is-required": True}
    assert made["groups"][-1].items() >= rules.items()
