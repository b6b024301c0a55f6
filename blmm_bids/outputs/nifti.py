"""NIfTI-1 files whose bytes depend on their values only."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from blmm_bids.outputs.files import opened_aside

if TYPE_CHECKING:
    from blmm_bids.images.grid import Grid

# Magic, deflate, no flags, no time, no hint, system unknown; Python's gzip puts in the name and the time.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_COMPRESSION_LEVEL = 2
# NIfTI's code for a space that is some other image's; 0 would make readers ignore the affine.
_ALIGNED = 2
# Quaternions are stored as float32: this is far above their rounding (mm).
_QFORM_TOLERANCE = 1e-3


def write_volume(
    path: Path,
    volume: NDArray[np.generic],
    grid: Grid,
    *,
    intent: tuple[str, tuple[float, ...]] = ("none", ()),
    intent_name: str = "",
) -> Path:
    """Write one 3-D map as ``.nii.gz``, atomically.

    Parameters
    ----------
    path : Path
        File to write.
    volume : (x, y, z)
        Values, in the type that the file shall have.
    grid : Grid
        Its affine goes into sform and qform.
    intent : tuple
        NIfTI intent and its parameters.
    intent_name : str
        Up to 15 characters for the header.

    Returns
    -------
    Path
        The file written.
    """
    image = nib.Nifti1Image(volume, None)
    header = image.header
    header.set_data_dtype(volume.dtype)
    header.set_xyzt_units("mm")
    header.set_intent(intent[0], intent[1], name=intent_name[:15])
    image.set_sform(grid.affine, code=grid.sform_code or _ALIGNED)
    image.set_qform(grid.affine, code=grid.qform_code)
    # A quaternion cannot hold shears; readers that prefer the qform would then see another space.
    if not np.allclose(image.get_qform(coded=False), grid.affine, atol=_QFORM_TOLERANCE):
        image.set_qform(grid.affine, code=0)
    content = image.to_bytes()
    with opened_aside(path) as file:
        file.write(gzipped(content))
    return path


def gzipped(content: bytes) -> bytes:
    """Compress to the gzip format without name and time."""
    # igzip: several times faster than zlib on float maps, and a run writes hundreds of them.
    deflater = isal_zlib.compressobj(_COMPRESSION_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    body = deflater.compress(content) + deflater.flush()
    trailer = struct.pack("<II", isal_zlib.crc32(content), len(content) & 0xFFFFFFFF)
    return _GZIP_HEADER + bytes(body) + trailer
