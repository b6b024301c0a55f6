#!/bin/sh
# Steps that the Docker and the Apptainer image have in common; they run inside the image, in the root of
# the checkout.
#   install.sh dependencies          an environment in /opt/blmm with requirements/lock.txt
#   install.sh package               this package as a wheel, and its kernels compiled
#   install.sh templates NAME ...    brain masks of TemplateFlow templates in /opt/templateflow; 'none' for none
set -eu

dependencies() {
    python3 -m venv /opt/blmm
    /opt/blmm/bin/pip install --no-cache-dir --require-hashes -r requirements/lock.txt
    # Tests are a tenth of the image, and nobody runs them there. numba imports its own.
    find /opt/blmm/lib -type d -name tests -not -path '*/numba/*' -prune -exec rm -rf {} +
}

package() {
    /opt/blmm/bin/pip install --no-cache-dir --no-deps .
    mkdir -p "$BLMM_KERNEL_CACHE"
    # -P: of the package as installed, not of the sources in this directory; numba tells them apart.
    XDG_CACHE_HOME=$BLMM_KERNEL_CACHE /opt/blmm/bin/python -P -m blmm_bids.stats.compile_all
    # Nothing is installed there any more.
    for name in pip setuptools pkg_resources _distutils_hack distutils-precedence.pth pip-* setuptools-*; do
        rm -rf /opt/blmm/lib/python3*/site-packages/$name
    done
    rm -f /opt/blmm/bin/pip*
    chmod -R a+rX /opt/blmm
}

templates() {
    mkdir -p "$TEMPLATEFLOW_HOME"
    if [ "$*" != none ]; then
        # shellcheck disable=SC2048,SC2086  # names, in one argument or several
        /opt/blmm/bin/python -c '
import sys
from templateflow import api
for name in sys.argv[1:]:
    api.get(name, desc="brain", suffix="mask", extension=".nii.gz", raise_empty=True)
' $*
        # TemplateFlow marks the files that it knows and has not fetched by empty ones.
        find "$TEMPLATEFLOW_HOME" -name '*_desc-brain_mask.nii.gz' -size +0 | grep .
    fi
    chmod -R a+rX "$TEMPLATEFLOW_HOME"
}

"$@"
