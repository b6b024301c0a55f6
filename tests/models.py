"""Data sets and their models: the sixteen published fits of the shared data, as designs.

The formulas are R's; `classic_design` codes factors as R did (levels in R's order, treatment contrasts,
polynomial ones for the ordered temperature of cake) and names columns as R names them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from formulaic import model_matrix

from blmm_bids.stats.model import Design, RandomTerm


@dataclass(frozen=True)
class Classic:
    """One published model: its data, response, fixed part, bars, and factors of the fixed part."""

    data: str
    response: str
    fixed: str
    bars: tuple[tuple[str, str], ...]
    factors: tuple[str, ...] = ()
    ordered: tuple[str, ...] = ()


CLASSIC = {
    "sleepstudy_ri": Classic("sleepstudy", "Reaction", "Days", (("1", "Subject"),)),
    "sleepstudy_rs": Classic("sleepstudy", "Reaction", "Days", (("1 + Days", "Subject"),)),
    "sleepstudy_rs_nocorr": Classic(
        "sleepstudy", "Reaction", "Days", (("1", "Subject"), ("0 + Days", "Subject"))
    ),
    "penicillin_crossed": Classic("Penicillin", "diameter", "1", (("1", "plate"), ("1", "sample"))),
    "pastes_nested": Classic("Pastes", "strength", "1", (("1", "batch"), ("1", "sample"))),
    "cake": Classic(
        "cake",
        "angle",
        "recipe * temperature",
        (("1", "recipe:replicate"),),
        ("recipe", "temperature"),
        ("temperature",),
    ),
    "dyestuff": Classic("Dyestuff", "Yield", "1", (("1", "Batch"),)),
    "dyestuff2_singular": Classic("Dyestuff2", "Yield", "1", (("1", "Batch"),)),
    "orthodont_rs": Classic("Orthodont", "distance", "age * Sex", (("1 + age", "Subject"),), ("Sex",)),
    "orthodont_ri": Classic("Orthodont", "distance", "age * Sex", (("1", "Subject"),), ("Sex",)),
    "oxide_nested": Classic("Oxide", "Thickness", "1", (("1", "Lot"), ("1", "Wafer"))),
    "machines_nested": Classic(
        "Machines", "score", "Machine", (("1", "Worker"), ("1", "Worker:Machine")), ("Machine",)
    ),
    "ham": Classic(
        "ham",
        "Informed.liking",
        "Product * Information",
        (("1", "Consumer"), ("1", "Product:Consumer")),
        ("Product", "Information"),
    ),
    "carrots_rs": Classic(
        "carrots", "Preference", "sens2 + Homesize", (("1 + sens2", "Consumer"),), ("Homesize",)
    ),
    "tvbo": Classic(
        "TVbo",
        "Coloursaturation",
        "TVset * Picture",
        (("1", "Assessor"), ("1", "Assessor:TVset")),
        ("TVset", "Picture"),
    ),
    "insteval_crossed": Classic("InstEval", "y", "service", (("1", "s"), ("1", "d")), ("service",)),
}
# R's level order where it is not the sorted one.
LEVELS = {"Sex": ("Male", "Female")}


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """One data set; InstEval is the CSV at BLMM_INSTEVAL (R: `write.csv(lme4::InstEval, "InstEval.csv")`)."""
    if name == "InstEval":
        return pd.read_csv(os.environ["BLMM_INSTEVAL"])
    return pd.read_csv(folder / f"data_{name}.csv")


def classic_design(model: Classic, table: pd.DataFrame, *, sums: bool = False) -> tuple[Design, np.ndarray]:
    """Design and response; with ``sums``, factors have sum contrasts, for type III tests."""
    rhs = model.fixed
    columns = pd.DataFrame(index=table.index)
    for name in re.findall(r"[A-Za-z]\w*", model.fixed):
        if name not in model.factors:
            columns[name] = table[name].astype(float)
            continue
        levels = LEVELS.get(name) or sorted(table[name].unique())
        columns[name] = pd.Categorical(table[name], categories=list(levels))
        coding = "poly" if name in model.ordered else "sum" if sums else "treatment"
        rhs = re.sub(rf"\b{name}\b", f"C({name}, contr.{coding})", rhs)
    matrix = model_matrix(rhs, columns)
    names = tuple(as_in_r(str(name)) for name in matrix.columns)
    terms = tuple(_term(table, effects, group) for effects, group in model.bars)
    design = Design(np.asarray(matrix, dtype=np.float64), names, terms)
    return design, table[model.response].to_numpy(dtype=np.float64)


def as_in_r(name: str) -> str:
    """``C(Sex, contr.treatment)[T.Female]:age`` to ``SexFemale:age``."""
    if name in ("1", "Intercept"):
        return "(Intercept)"
    name = re.sub(r"C\((\w+), contr\.\w+\)", r"\1", name)
    return re.sub(r"\[(?:[TS]\.)?([^\]]*)\]", r"\1", name)


def _term(table: pd.DataFrame, effects: str, group: str) -> RandomTerm:
    labels = table[group.split(":")[0]].astype(str)
    for part in group.split(":")[1:]:
        labels = labels + ":" + table[part].astype(str)
    levels, refs = np.unique(labels, return_inverse=True)
    names = ["Intercept", *effects.split(" + ")[1:]] if effects.startswith("1") else effects.split(" + ")[1:]
    columns = [np.ones(len(table)) if name == "Intercept" else table[name].to_numpy(float) for name in names]
    return RandomTerm(
        group, tuple(levels), refs.ravel().astype(np.int64), np.column_stack(columns), tuple(names)
    )
