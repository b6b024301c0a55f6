"""Dense truths: every number of a fit from V = I + ZDZ' as an n x n matrix, and a slow optimiser.

Nothing here knows the package beyond `Design`; the formulas are those one finds in a textbook.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize


def variance_parts(design):
    """Z E Z' (obs, obs) for each vech element: V = I + sum_i D_i part_i."""
    parts = []
    for term in design.terms:
        same = term.refs[:, None] == term.refs
        for col in range(term.n_effects):
            for row in range(col, term.n_effects):
                part = same * np.outer(term.effects[:, row], term.effects[:, col])
                parts.append(part if row == col else part + part.T)
    return parts


@dataclass
class Dense:
    """A model at given D: estimates and log-likelihood."""

    loglik: float
    beta: np.ndarray
    sigma2: float
    vcov: np.ndarray
    resms: float


def dense_fit(design, y, D, *, reml=True, sigma2=None):
    """Profiled estimates at D (vech); with ``sigma2`` given, the log-likelihood there."""
    X = design.X
    n, p = X.shape
    V = np.eye(n) + sum(d * part for d, part in zip(D, variance_parts(design), strict=True))
    M = X.T @ np.linalg.solve(V, X)
    beta = np.linalg.solve(M, X.T @ np.linalg.solve(V, y))
    e = y - X @ beta
    nu = n - p if reml else n
    rss = e @ np.linalg.solve(V, e)
    s2 = rss / nu if sigma2 is None else sigma2
    deviance = nu * np.log(2 * np.pi * s2) + np.linalg.slogdet(V)[1] + rss / s2
    if reml:
        deviance += np.linalg.slogdet(M)[1]
    return Dense(-deviance / 2, beta, s2, s2 * np.linalg.inv(M), e @ e / (n - p))


def eta_pieces(design, D, sigma2):
    """Omega = sigma2 V and its derivatives in eta = (sigma2, vech D)."""
    parts = variance_parts(design)
    V = np.eye(design.n_obs) + sum(d * part for d, part in zip(D, parts, strict=True))
    return sigma2 * V, [V, *(sigma2 * part for part in parts)]


def vcov_gradient(design, D, sigma2):
    """d vcov / d eta (eta, fixef, fixef)."""
    omega, slopes = eta_pieces(design, D, sigma2)
    W = np.linalg.solve(omega, design.X)
    vcov = np.linalg.inv(design.X.T @ W)
    return np.array([vcov @ W.T @ slope @ W @ vcov for slope in slopes])


def score(design, y, D, sigma2, *, reml):
    """Slope of the log-likelihood in eta = (sigma2, vech D), at the beta that D asks for."""
    omega, slopes = eta_pieces(design, D, sigma2)
    inverse = np.linalg.inv(omega)
    W = inverse @ design.X
    P = inverse - W @ np.linalg.solve(design.X.T @ W, W.T)
    weights = P if reml else inverse
    return np.array([(y @ P @ part @ P @ y - np.sum(weights * part)) / 2 for part in slopes])


def information(design, D, sigma2, *, restricted):
    """``tr(P V_i P V_j) / 2``, with the inverse of Omega for P unless restricted."""
    omega, slopes = eta_pieces(design, D, sigma2)
    P = np.linalg.inv(omega)
    if restricted:
        W = P @ design.X
        P = P - W @ np.linalg.solve(design.X.T @ W, W.T)
    products = [P @ slope for slope in slopes]
    return np.array([[np.sum(a * b.T) / 2 for b in products] for a in products])


def observed_information(design, y, D, sigma2, *, reml):
    """Minus the Hessian of the log-likelihood in eta; Richardson on steps of 1 % of the scale."""
    eta = np.concatenate([[sigma2], D])
    scale = [sigma2]
    for term in design.terms:
        size = term.n_effects * (term.n_effects + 1) // 2
        first = len(scale) - 1
        scale += [np.abs(D[first : first + size]).max()] * size

    def central(i, j, h):
        a, b = np.zeros((2, eta.size))
        a[i], b[j] = h * scale[i], h * scale[j]

        def value(x):
            return dense_fit(design, y, x[1:], reml=reml, sigma2=x[0]).loglik

        corners = value(eta + a + b) - value(eta + a - b) - value(eta - a + b) + value(eta - a - b)
        return corners / (4 * a[i] * b[j])

    return -np.array(
        [
            [(4 * central(i, j, 0.005) - central(i, j, 0.01)) / 3 for j in range(eta.size)]
            for i in range(eta.size)
        ]
    )


def satterthwaite_df(weights, vcov, gradient, eta_cov):
    g = np.array([weights @ slope @ weights for slope in gradient])
    return 2 * (weights @ vcov @ weights) ** 2 / (g @ eta_cov @ g)


def orthonormal_rows(L, design):
    """The same hypothesis in rows that depend on no unit: uncorrelated if levels' images were unlike."""
    X = design.X
    V = np.eye(len(X))
    effects = [(term, e) for term in design.terms for e in range(term.n_effects)]
    for i, (term, e) in enumerate(effects, start=1):
        for level in range(term.n_levels):
            Z = term.effects[:, : e + 1] * (term.refs == level)[:, None]
            added = Z[:, e] - Z[:, :e] @ np.linalg.pinv(Z[:, :e]) @ Z[:, e]
            if np.linalg.norm(added) > 1e-4 * np.linalg.norm(Z[:, e]):
                V -= i / (len(effects) * (len(effects) + 1)) * np.outer(added, added) / (added @ added)
    estimate = X @ np.linalg.solve(X.T @ X, L.T)
    return np.linalg.solve(np.linalg.cholesky(estimate.T @ V @ estimate), L)


def containment_df(design, L):
    """Fewest df among the strata that the least-squares estimate of L rests on, else the residual's."""
    X, rank = design.X, np.linalg.matrix_rank
    estimate = X @ np.linalg.solve(X.T @ X, L.T)
    columns = []
    for term in design.terms:
        for effect in term.effects.T:
            columns.append((term.refs[:, None] == np.arange(term.n_levels)) * effect[:, None])
    left, lowest = len(X) - rank(np.hstack([X, *columns])), np.inf
    for Z in columns:
        within = [W for W in columns if rank(W) < rank(Z) == rank(np.hstack([Z, W]))]
        df = rank(np.hstack([X, *within, Z])) - rank(np.hstack([X, *within]))
        if np.abs(Z.T @ estimate).max() > 1e-8:
            lowest = min(lowest, df)
    return max(lowest if np.isfinite(lowest) else left, 1)


def fai_cornelius(L, beta, vcov, gradient, eta_cov, floor=0.0):
    """F, its denominator df and partial R2."""
    values, vectors = np.linalg.eigh(L @ vcov @ L.T)
    r = values.size
    F = (L @ beta) @ np.linalg.solve(L @ vcov @ L.T, L @ beta) / r
    nu = np.array([max(satterthwaite_df(row, vcov, gradient, eta_cov), floor) for row in vectors.T @ L])
    if np.ptp(nu) < 1e-8:
        df = nu.mean()
    elif (nu <= 2).any():
        df = 2.0
    else:
        E = np.sum(nu / (nu - 2))
        df = 2 * E / (E - r)
    return F, df, r * F / (r * F + df)


def factors_of(theta, design):
    """Lower-triangular factor of each term's D; theta holds them column by column."""
    factors, first = [], 0
    for term in design.terms:
        q = term.n_effects
        factor = np.zeros((q, q))
        factor[np.triu_indices(q)[::-1]] = theta[first : first + q * (q + 1) // 2]
        first += q * (q + 1) // 2
        factors.append(factor)
    return factors


def just_inside(D, design):
    """The theta of D, its eigenvalues 1e-4 at least: theta_jj = 0 would be stationary."""
    factors, first = [], 0
    for term in design.terms:
        q = term.n_effects
        matrix = np.zeros((q, q))
        matrix[np.triu_indices(q)] = D[first : first + q * (q + 1) // 2]
        first += q * (q + 1) // 2
        values, vectors = np.linalg.eigh(matrix, UPLO="U")
        factor = np.linalg.cholesky((vectors * np.maximum(values, 1e-4)) @ vectors.T)
        factors.append(factor[np.triu_indices(q)[::-1]])
    return np.concatenate(factors)


def best_loglik(design, y, *, reml=True, n_starts=4, seed=0, near=None):
    """Highest log-likelihood that scipy finds from several starts; or from D = ``near``, just inside."""
    X, (n, p) = design.X, design.X.shape
    nu = n - p if reml else n
    parts = np.array(variance_parts(design)).reshape(-1, n, n)

    def deviance_and_slope(theta):
        factors = factors_of(theta, design)
        D = np.concatenate([(f @ f.T)[np.triu_indices(len(f))] for f in factors])
        V_inv = np.linalg.inv(np.eye(n) + np.tensordot(D, parts, 1))
        M = X.T @ V_inv @ X
        P = V_inv - V_inv @ X @ np.linalg.solve(M, X.T @ V_inv)
        Py = P @ y
        rss = y @ Py
        value = nu * np.log(2 * np.pi * rss / nu) - np.linalg.slogdet(V_inv)[1] + nu
        value += np.linalg.slogdet(M)[1] if reml else 0.0
        slope = np.tensordot(parts, (P if reml else V_inv) - nu / rss * np.outer(Py, Py), 2)
        # d/dtheta of D = LL' is 2 S L, with S symmetric and its off-diagonal slopes halved.
        gradient, first = [], 0
        for f in factors:
            q = len(f)
            S = np.zeros((q, q))
            S[np.triu_indices(q)] = slope[first : first + q * (q + 1) // 2] / 2
            first += q * (q + 1) // 2
            gradient.append((2 * (S + S.T) @ f)[np.triu_indices(q)[::-1]])
        return value, np.concatenate(gradient)

    rng = np.random.default_rng(seed)
    ones = np.concatenate([np.eye(t.n_effects)[np.triu_indices(t.n_effects)] for t in design.terms])
    starts = [0 * ones, ones, 0.1 * ones, 10 * ones, *(rng.normal(size=(n_starts, ones.size)) * 3)]
    if near is not None:
        starts = [just_inside(near, design)]
    options = {"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-8}
    found = [
        optimize.minimize(deviance_and_slope, start, jac=True, method="L-BFGS-B", options=options)
        for start in starts
    ]
    return -min(result.fun for result in found) / 2
