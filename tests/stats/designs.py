"""Random and balanced designs with data drawn from a known D."""

from __future__ import annotations

import numpy as np

from blmm_bids.stats.model import Design, RandomTerm

# What the true D of each drawn response is: inside, on, or very near the boundary, or far out.
TRUTHS = ("inside", "zero", "rank one", "tiny", "large", "negative")


def make_term(group, refs, *columns):
    """Random term of the columns over the levels in ``refs``."""
    effects = np.column_stack(columns).astype(float)
    levels = tuple(f"level{i}" for i in range(int(refs.max()) + 1))
    return RandomTerm(
        group, levels, refs.astype(np.int64), effects, tuple(f"e{i}" for i in range(effects.shape[1]))
    )


def make_design(X, *terms):
    return Design(X.astype(float), tuple(f"x{i}" for i in range(X.shape[1])), terms)


def random_design(rng, max_terms=3, n_obs=None):
    """Unbalanced: 1-3 factors (crossed, nested or by chance), 1-3 effects, some levels seen once."""
    n = n_obs or int(rng.integers(40, 61))
    X = np.column_stack([np.ones(n), *rng.normal(size=(int(rng.integers(0, 3)), n))])
    n_terms = int(rng.integers(1, max_terms + 1))
    terms = []
    for k in range(n_terms):
        n_effects = int(rng.integers(1, 4)) if n_terms == 1 else int(rng.integers(1, 3))
        n_levels = int(rng.integers(4, max(6, n // (2 * n_terms * n_effects) + 1)))
        refs = _refs(rng, n, n_levels)
        slopes = [
            rng.normal(size=n) if rng.random() < 0.5 else np.arange(n) % 5 - 1.0 for _ in range(n_effects - 1)
        ]
        if n_effects == 3:
            slopes[1] = rng.normal(size=n)
        terms.append(make_term(f"g{k}", refs, np.ones(n), *slopes))
    return make_design(X, *terms)


def _refs(rng, n, n_levels):
    """Level of each observation; every level is there."""
    refs = {
        0: np.arange(n) % n_levels,
        1: np.sort(rng.integers(0, n_levels, n)),
        2: np.minimum(rng.geometric(2 / n_levels, n) - 1, n_levels - 1),
    }[int(rng.integers(3))]
    refs[rng.permutation(n)[:n_levels]] = np.arange(n_levels)
    return refs


def draw(design, rng, truth):
    """One response with the given kind of D."""
    y = rng.normal(size=design.n_obs) + design.X @ rng.normal(size=design.n_fixef)
    for term in design.terms:
        q = term.n_effects
        factor = np.tril(rng.normal(size=(q, q)))
        factor *= {"tiny": 0.03, "large": 10.0, "zero": 0.0, "negative": 0.0}.get(truth, 1.0)
        if truth == "rank one":
            factor[:, 1:] = 0.0
        b = rng.normal(size=(term.n_levels, q)) @ factor.T
        y = y + (term.effects * b[term.refs]).sum(axis=1)
    if truth == "negative":
        # Levels more alike than chance makes them: the estimate of D is zero.
        for term in design.terms:
            means = np.bincount(term.refs, y, term.n_levels) / np.maximum(
                np.bincount(term.refs, minlength=term.n_levels), 1
            )
            y = y - 0.9 * means[term.refs]
    return y


def draw_all(design, rng):
    """(voxel, obs), one voxel a truth."""
    return np.stack([draw(design, rng, truth) for truth in TRUTHS])


def with_missing(Y, rng, share=0.1):
    """Every second voxel without some images; the others complete."""
    Y = Y.copy()
    for row in Y[1::2]:
        row[rng.random(row.size) < share] = np.nan
    return Y


def balanced(n_subjects=50, n_visits=4, seed=1):
    """Random intercept, three between-subject columns: the textbook df is 47."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n_subjects), n_visits)
    between = np.column_stack([np.ones(n_subjects), rng.normal(size=(n_subjects, 2))])
    return make_design(between[subject], make_term("subject", subject, np.ones(subject.size)))


def slopes_design(n_effects, n_levels=12, n_visits=6):
    """Every subject at the same visits; up to a quadratic in time, fixed and random. And a generator."""
    rng = np.random.default_rng(n_effects)
    subject = np.repeat(np.arange(n_levels), n_visits)
    time = np.tile(np.arange(n_visits) - 1.0, n_levels)
    columns = [np.ones(time.size), time, time**2][:n_effects]
    return make_design(np.column_stack(columns), make_term("subject", subject, *columns)), rng


def crossed_slopes():
    """Every subject at the same visits, and raters who see some of each."""
    design, rng = slopes_design(2, 14, 5)
    raters = make_term("rater", rng.integers(0, 3, design.n_obs), np.ones(design.n_obs))
    return make_design(design.X, *design.terms, raters)


def nested_design(n_inner, n_outer):
    """Families of one or two subjects, effects of time for either, and raters crossed. And a generator."""
    n_visits, family_of = 5, np.repeat(np.arange(14), [1, 2] * 7)
    rng = np.random.default_rng(10 * n_inner + n_outer)
    subject = np.repeat(np.arange(family_of.size), n_visits)
    time = np.tile(np.arange(n_visits) - 1.0, family_of.size)
    columns = [np.ones(time.size), time, time**2]
    age = rng.normal(size=family_of.size)[subject]
    return make_design(
        np.column_stack([*columns[:2], age]),
        make_term("subject", subject, *columns[:n_inner]),
        make_term("family", family_of[subject], *columns[:n_outer]),
        make_term("rater", rng.integers(0, 4, time.size), columns[0]),
    ), rng


def factor_cases():
    """Name, factor of the true D (2 x 2 and 3 x 3, of every rank) and residual SD."""
    full = np.array([[1.0, 0, 0], [0.6, 0.8, 0], [-0.3, 0.5, 0.7]])
    for q in (2, 3):
        for rank in range(q + 1):
            factor = full[:q, :q].copy()
            factor[:, rank:] = 0
            yield f"{q} effects, rank {rank}", factor, 1.0
    yield "correlation 1, steep slope", np.array([[1.0, 0], [5.0, 0]]), 0.2
    yield "correlation -1", np.array([[1.0, 0], [-1.0, 0]]), 0.2
    # A zero in front of a variance: the unpivoted factor of such a D has a free second column.
    yield "no intercept variance", np.array([[0.0, 0], [0, 1.0]]), 0.5
    yield "tiny variances", 0.01 * np.array([[1.0, 0], [0.5, 1.0]]), 1.0
    yield "variances far above the noise", 1000.0 * np.array([[1.0, 0], [0.5, 1.0]]), 1.0
    yield "one far above, one below", np.array([[1000.0, 0], [0, 0.01]]), 1.0


def subset(design, keep):
    """The design of some rows; levels stay as they are."""
    terms = [
        RandomTerm(t.group, t.levels, t.refs[keep], t.effects[keep], t.effect_names) for t in design.terms
    ]
    return Design(design.X[keep], design.fixef_names, tuple(terms))
