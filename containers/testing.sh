# What the tests of the images have in common; they source it.
#
# DATASET and MODEL name what is fitted; without them it is the demo's dataset. PYTHON is that of the bare run
# that the image's is compared with, and BARE where its outputs are, or go.
set -euo pipefail

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-$CHECKOUT/.venv/bin/python}
WORK=$(mktemp -d)
chmod 755 "$WORK"
# Files of other users are among them where containers ran as such.
trap 'rm -rf "$WORK"' EXIT

OPTIONS=(--outputs default,ranef,residuals)

say() { printf '== %s\n' "$*"; }

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# The dataset and the model that are fitted, in DATASET and MODEL.
find_inputs() {
    if [ -z "${DATASET:-}" ]; then
        DATASET=$WORK/dataset
        MODEL=$CHECKOUT/demo/model.json
        (cd "$CHECKOUT" && "$PYTHON" -c \
            'import sys; from pathlib import Path; from demo.dataset import write_dataset; write_dataset(Path(sys.argv[1]))' \
            "$DATASET")
    fi
    MODEL=${MODEL:-$DATASET/model.json}
}

# Set PROGRAM, its options IN_CONTAINER, and IMAGE: built from this checkout unless it is there.
prepare_apptainer() {
    local build
    read -r -a build <<<"${APPTAINER_BUILD:-apptainer build}"
    read -r -a IN_CONTAINER <<<"${APPTAINER_OPTIONS:-}"
    PROGRAM=${APPTAINER:-apptainer}
    IMAGE=${IMAGE:-$WORK/blmm-bids.sif}
    if [ ! -e "$IMAGE" ]; then
        say "building $IMAGE"
        (cd "$CHECKOUT" && "${build[@]}" ${TEMPLATES:+--build-arg "TEMPLATES=$TEMPLATES"} "$IMAGE" Singularity.def)
    fi
    say "$IMAGE: $(du -m "$IMAGE" | cut -f1) MB"
}

# compare_with_bare OUT: every map is that of a run without a container, voxel for voxel and bit for bit. Its
# kernels are compiled for the processors that the image's are compiled for.
compare_with_bare() {
    local bare=${BARE:-$WORK/bare}
    if [ ! -e "$bare/dataset_description.json" ]; then
        say "the bare run"
        NUMBA_CPU_NAME=x86-64-v3 NUMBA_CPU_FEATURES='' "$PYTHON" "$CHECKOUT/bids_app_run.py" \
            "$DATASET" "$bare" group --model "$MODEL" "${OPTIONS[@]}" --nprocs 2 --quiet
    fi
    "$PYTHON" "$CHECKOUT/containers/compare_maps.py" "$1" "$bare"
}

# only_links TMP: the kernels that a run with this /tmp had were the image's.
only_links() {
    local folder
    folder=$(find "$1" -type d -name 'blmm-bids-numba-*' | head -1)
    [ -n "$folder" ] || fail "no folder of kernels in the container's /tmp"
    [ -n "$(find "$folder" -type l)" ] || fail "none of the image's kernels was used"
    local compiled
    compiled=$(find "$folder" -type f)
    [ -z "$compiled" ] || fail "compiled though they should have been in the image: $compiled"
    say "no kernel was compiled"
}
