"""Where things are in the demo's images: the grid, the brain, and the effects planted in it.

Coordinates are millimetres in MNI orientation (x to the right, y to the front, z up).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOXEL_SIZE = 5.0  # mm
SHAPE = (33, 38, 30)
ORIGIN = (-80.0, -110.0, -60.0)
SMOOTHNESS = 4.0  # mm, SD of the Gaussian that the random fields are smoothed with


@dataclass(frozen=True)
class Sphere:
    """An effect planted in a ball.

    Attributes
    ----------
    column : str
        Column of the design that the effect belongs to.
    region : str
        What stands there, for the reader of the table.
    centre : tuple of float
        Millimetres.
    effect : float
        Units of the images per unit of the column.
    radius : float
        Millimetres.
    """

    column: str
    region: str
    centre: tuple[float, float, float]
    effect: float
    radius: float = 14.0


SPHERES = (
    Sphere("time", "left hippocampus", (-25.0, -20.0, -15.0), -0.80),
    Sphere("time", "right hippocampus", (25.0, -20.0, -15.0), -0.60),
    Sphere("time", "posterior cingulate", (0.0, -50.0, 30.0), 0.70),
    Sphere("age", "left middle frontal gyrus", (-35.0, 30.0, 30.0), -0.08),
    Sphere("age", "right middle frontal gyrus", (35.0, 30.0, 30.0), -0.06),
    Sphere("sex[T.M]", "left inferior parietal lobule", (-45.0, -45.0, 45.0), 2.00),
    Sphere("sex[T.M]", "right inferior parietal lobule", (45.0, -45.0, 45.0), -1.50),
)
# Nothing was planted where the signal drops out in many scans.
NULL_REGION = ("ventromedial prefrontal cortex", (0.0, 40.0, -5.0))


def affine() -> NDArray[np.float64]:
    """(4, 4) matrix from voxel indices to millimetres."""
    matrix = np.diag([VOXEL_SIZE, VOXEL_SIZE, VOXEL_SIZE, 1.0])
    matrix[:3, 3] = ORIGIN
    return matrix


def coordinates() -> NDArray[np.float64]:
    """(x, y, z, axis) millimetres of each voxel's centre."""
    axes = [start + VOXEL_SIZE * np.arange(n) for start, n in zip(ORIGIN, SHAPE, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def voxel_at(millimetres: tuple[float, float, float]) -> tuple[int, int, int]:
    """Index of the voxel whose centre is nearest."""
    i, j, k = np.rint((np.asarray(millimetres) - ORIGIN) / VOXEL_SIZE).astype(int)
    return int(i), int(j), int(k)


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.bool_]:
    """(x, y, z) voxels whose centre lies inside."""
    scaled = (coordinates() - centre) / np.asarray(radii)
    inside: NDArray[np.bool_] = np.sum(scaled**2, axis=-1) <= 1.0
    return inside


def brain_mask() -> NDArray[np.bool_]:
    """(x, y, z) cerebrum with its fissure, temporal lobes and cerebellum."""
    x, _, z = np.moveaxis(coordinates(), -1, 0)
    cerebrum = ellipsoid((0, -18, 15), (68, 86, 60)) & (z > -25)
    cerebrum &= ~((np.abs(x) < VOXEL_SIZE / 2) & (z > 40))
    temporal = ellipsoid((-45, -12, -22), (24, 45, 24)) | ellipsoid((45, -12, -22), (24, 45, 24))
    cerebellum = ellipsoid((0, -62, -36), (46, 30, 20))
    brain: NDArray[np.bool_] = cerebrum | temporal | cerebellum
    return brain


def planted_effects(columns: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """(x, y, z) map of the true effect of each column."""
    effects = {column: np.zeros(SHAPE) for column in columns}
    for sphere in SPHERES:
        inside = ellipsoid(sphere.centre, (sphere.radius, sphere.radius, sphere.radius))
        effects[sphere.column][inside] = sphere.effect
    return effects


def signal_present(rng: np.random.Generator) -> NDArray[np.bool_]:
    """(x, y, z) voxels that one scan covers: orbitofrontal dropout, now and then a cut field of view."""
    z = coordinates()[..., 2]
    radius = rng.uniform(1.0, 24.0)
    present = ~ellipsoid((0, 40, -22), (1.3 * radius, radius, radius))
    if rng.random() < 0.15:
        present &= z < 75 - rng.uniform(5, 20)
    if rng.random() < 0.15:
        present &= z > -58 + rng.uniform(5, 20)
    return present


def random_field(rng: np.random.Generator) -> NDArray[np.float64]:
    """(x, y, z) smooth Gaussian field with mean 0 and variance 1 at every voxel."""
    sigma = SMOOTHNESS / VOXEL_SIZE
    margin = int(np.ceil(4 * sigma))
    noise = rng.standard_normal(tuple(n + 2 * margin for n in SHAPE))
    smooth = gaussian_filter(noise, sigma)[margin:-margin, margin:-margin, margin:-margin]
    impulse = np.zeros(2 * margin + 1)
    impulse[margin] = 1.0
    # The filter is separable, so its gain in variance is one axis's to the third power.
    gain = np.sum(gaussian_filter(impulse, sigma) ** 2) ** 3
    return np.divide(smooth, np.sqrt(gain))
