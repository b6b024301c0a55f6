"""Fuzzing: broken bytes give a `BlmmError` or a result, never another exception, never a hang.

`make test` runs a few hundred examples and the corpus of what once broke; `make test-faults` many thousands,
and atheris, guided by coverage, where it is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.alarms import in_seconds
from tests.fuzz_targets import CORPUS, SEEDS, TARGETS, WORDS

# Seconds for one example; the slowest take some hundredths.
LIMIT = 20
MANY = int(os.environ.get("BLMM_TEST_EXAMPLES", "3000"))
SECONDS = int(os.environ.get("BLMM_TEST_FUZZ_SECONDS", "40"))


@st.composite
def mutations(draw, target):
    """A sound example with some bytes replaced, words of the format put in, pieces cut out or doubled."""
    content = draw(st.sampled_from(SEEDS[target]))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(content)))
        stop = min(start + draw(st.sampled_from([0, 0, 1, 2, 4, 20])), len(content))
        new = draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from(WORDS[target]),
                st.just(content[start : start + 30]),
                st.just(b""),
            )
        )
        content = content[:start] + new + content[stop:]
    return content


def check(target, n_examples):
    @settings(max_examples=n_examples, suppress_health_check=list(HealthCheck))
    @given(st.one_of(mutations(target), st.binary(max_size=600)))
    def holds(content):
        with in_seconds(LIMIT, "an example"):
            TARGETS[target](content)

    holds()


@pytest.mark.parametrize("target", TARGETS)
def test_target__takes_its_seeds(target):
    for content in SEEDS[target]:
        TARGETS[target](content)


@pytest.mark.parametrize("target", TARGETS)
def test_target__some_broken_bytes(target):
    check(target, 60)


@pytest.mark.faults
@pytest.mark.parametrize("target", TARGETS)
def test_target__many_broken_bytes(target):
    check(target, MANY)


@pytest.mark.parametrize(
    "path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_target__corpus_of_what_once_broke(path):
    with in_seconds(LIMIT, "an example"):
        TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.faults
@pytest.mark.parametrize("target", TARGETS)
def test_target__atheris_finds_nothing(target, tmp_path, checkout):
    """Coverage-guided: `pip install atheris` has it take part."""
    pytest.importorskip("atheris", reason="atheris is not installed")
    seeds, found = tmp_path / "seeds", tmp_path / "found"
    seeds.mkdir()
    found.mkdir()
    for number, content in enumerate(
        [*SEEDS[target], *(path.read_bytes() for path in CORPUS.glob(f"{target}/*"))]
    ):
        (seeds / str(number)).write_bytes(content)
    words = tmp_path / "words"
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in WORDS[target] if len(word) < 60)
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    script = (
        "import sys, atheris\n"
        "with atheris.instrument_imports(include=['blmm_bids', 'yaml', 'json', 'formulaic']):\n"
        "    from tests.fuzz_targets import TARGETS\n"
        f"atheris.Setup(sys.argv, TARGETS[{target!r}])\natheris.Fuzz()\n"
    )
    arguments = [
        *(
            f"-artifact_prefix={found}/",
            f"-max_total_time={SECONDS}",
            f"-timeout={LIMIT}",
            "-rss_limit_mb=4096",
        ),
        *(f"-dict={words}", "-max_len=4096", str(seeds)),
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=checkout, capture_output=True, text=True, check=False
    )
    crashes = {path.name: path.read_bytes() for path in found.iterdir()}
    assert done.returncode == 0, f"{crashes}\n{done.stderr[-3000:]}"
    print(target, done.stderr.strip().splitlines()[-1])  # noqa: T201
