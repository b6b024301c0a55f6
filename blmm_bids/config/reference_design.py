"""The model that a ``blmm_config.yml`` describes: X, random terms and contrasts as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blmm_bids.config.reference import ReferenceConfig, ReferenceContrast, ReferenceFactor
from blmm_bids.config.text_files import order_levels, read_factor, read_matrix
from blmm_bids.design.checks import check_fixed, check_terms
from blmm_bids.design.formula import INTERCEPT, ModelMatrix
from blmm_bids.errors import DataError, ModelSpecError
from blmm_bids.stats.model import Contrast, Design, FloatArray, RandomTerm


def load_design(config: ReferenceConfig) -> Design:
    """Read X and the factors, and check that they make a model that can be fitted.

    Columns are called by their number (``x2``; effects ``2``), a column of ones ``Intercept``.

    Parameters
    ----------
    config : ReferenceConfig
        As read.

    Returns
    -------
    Design
        A row an image, in the order of ``Y_files``.

    Raises
    ------
    MissingInputError
        A file is not there.
    DataError
        A file has a header, a wrong number of rows, text; X is rank-deficient; a factor cannot be
        a random factor.
    """
    design = read_design(config)
    try:
        check_fixed(ModelMatrix(design.X, design.fixef_names, {}))
    except DataError as error:
        msg = f"{config.design_file}: {error}"
        raise DataError(msg) from error
    for factor, term in zip(config.factors, design.terms, strict=True):
        try:
            check_terms([term], design.n_obs, safe_mode=config.fit_options.safe_mode)
        except DataError as error:
            msg = f"{factor.factor} and {factor.design}: {error}"
            raise DataError(msg) from error
    _check_overlap(design)
    return design


def read_design(config: ReferenceConfig) -> Design:
    """Read X and the factors as `load_design` does, without asking whether the model can be fitted."""
    n_obs = len(config.images)
    matrix = read_matrix(config.design_file, n_obs)
    return Design(
        matrix,
        tuple(_column_names(matrix, "x")),
        tuple(_read_term(factor, n_obs) for factor in config.factors),
    )


def build_contrasts(config: ReferenceConfig, design: Design) -> tuple[Contrast, ...]:
    """Contrasts of the config, in its order.

    Raises
    ------
    ModelSpecError
        A vector does not have one weight a column of X, or has a row of zeros.
    """
    return tuple(_build_contrast(config.path, contrast, design.n_fixef) for contrast in config.contrasts)


def _build_contrast(path: Path, contrast: ReferenceContrast, n_fixef: int) -> Contrast:
    weights = np.array(contrast.rows, dtype=np.float64)
    where = f"{path}: contrast '{contrast.name}'"
    if weights.shape[1] != n_fixef:
        msg = f"{where} has {weights.shape[1]} weights and X has {n_fixef} columns; give one weight a column"
        raise ModelSpecError(msg)
    if not weights.any(axis=1).all():
        msg = f"{where} has a row of zeros, which tests nothing; remove the row"
        raise ModelSpecError(msg)
    return Contrast(contrast.name, weights, contrast.test)


def _read_term(factor: ReferenceFactor, n_obs: int) -> RandomTerm:
    labels = read_factor(factor.factor, n_obs)
    levels = order_levels(labels)
    place = {label: index for index, label in enumerate(levels)}
    refs = np.array([place[label] for label in labels], dtype=np.int64)
    effects = read_matrix(factor.design, n_obs)
    return RandomTerm(factor.name, levels, refs, effects, tuple(_column_names(effects, "")))


def _column_names(matrix: FloatArray, prefix: str) -> list[str]:
    names = [f"{prefix}{number}" for number in range(1, matrix.shape[1] + 1)]
    constant = np.flatnonzero((matrix == 1).all(axis=0))
    if constant.size == 1:
        names[int(constant[0])] = INTERCEPT
    return names


def _check_overlap(design: Design) -> None:
    """Refuse two terms of one grouping that share an effect: their variances cannot be told apart."""
    for index, term in enumerate(design.terms):
        for number, other in enumerate(design.terms[:index], start=1):
            pairs = np.unique(np.stack([term.refs, other.refs]), axis=1).shape[1]
            if not pairs == term.n_levels == other.n_levels:
                continue
            joint = np.hstack([term.effects, other.effects])
            joint = joint / np.maximum(np.linalg.norm(joint, axis=0), np.finfo(float).tiny)
            if np.linalg.matrix_rank(joint, tol=1e-9) < joint.shape[1]:
                msg = (
                    f"random factors f{number} ('{other.group}') and f{index + 1} ('{term.group}') group "
                    "the images alike and share an effect, so their variances cannot be told apart; keep "
                    "each effect in one of them"
                )
                raise DataError(msg)
