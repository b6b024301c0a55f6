"""The rules of the layout that a machine can check.

Layers and forbidden imports are import-linter's contracts in ``pyproject.toml``.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "blmm_bids"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *CHECKOUT.glob("demo/*.py"), *CHECKOUT.glob("benchmarks/*.py")])
TESTS = CHECKOUT / "tests"

MAX_FUNCTION_LINES = 60
MAX_KERNEL_LINES = 90

# "path::function" -> why it may be longer
LONG_FUNCTIONS: dict[str, str] = {}

HEAVY = ("numba", "dask", "distributed", "dask_jobqueue", "nibabel", "bids", "templateflow")
# Methods of other packages' classes that ours override.
GIVEN_NAMES = {"get_pointer_to_function"}
FORBIDDEN_MODULE_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}
FORBIDDEN_FUNCTION_NAME = re.compile(r"_*(get|do)_")


def _relative(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    has_docstring = ast.get_docstring(function) is not None
    statements = function.body[1:] if has_docstring else function.body
    if not statements:
        return 0
    return (function.end_lineno or 0) - statements[0].lineno + 1


def test_layers__import_linter_keeps_its_contracts() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    done = subprocess.run(
        [*command, "--no-cache"], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("entry", ["main", "main_fit", "main_compare"])
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_cli__help_and_version_load_nothing_heavy(entry: str, flag: str) -> None:
    script = (
        "import sys\n"
        f"from blmm_bids.cli import {entry} as main\n"
        f"sys.argv = ['prog', {flag!r}]\n"
        "try:\n"
        "    code = main()\n"
        "except SystemExit as stop:\n"
        "    code = stop.code\n"
        f"loaded = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "print('\\ncode', code or 0, 'loaded', loaded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "code 0 loaded []"


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_function__is_short_enough_to_read(path: Path) -> None:
    is_kernel = "kernels" in _relative(path)
    bound = MAX_KERNEL_LINES if is_kernel else MAX_FUNCTION_LINES
    long = {function.name: n for function in _functions(path) if (n := _body_lines(function)) > bound}
    allowed = {name.split("::")[1] for name in LONG_FUNCTIONS if name.startswith(f"{_relative(path)}::")}
    assert set(long) == allowed, f"longer than {bound} lines: {long}; allowed: {allowed}"


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_name__says_what_it_is(path: Path) -> None:
    assert not FORBIDDEN_MODULE_NAMES & {path.stem, path.parent.name}
    vague = {function.name for function in _functions(path) if FORBIDDEN_FUNCTION_NAME.match(function.name)}
    assert not vague - GIVEN_NAMES


def test_room__is_a_package() -> None:
    """Every room is a package, so that the wheel and import-linter see it."""
    rooms = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [_relative(room) for room in sorted(rooms) if not (room / "__init__.py").is_file()] == []


def test_tests__mirror_the_package() -> None:
    stray = []
    for path in sorted(TESTS.glob("*/test_*.py")):
        room, name = path.parent.name, path.stem.removeprefix("test_")
        home = CHECKOUT if room == "benchmarks" else PACKAGE
        if not (home / room / f"{name}.py").is_file() and not (home / room / name).is_dir():
            stray.append(_relative(path))
    assert stray == [], "no file of that name in the package's room"
