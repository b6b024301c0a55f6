#!/usr/bin/env bash
# Build the Apptainer image from this checkout and run it with read-only input and nothing of the user's
# home; its maps must be those of a bare run. See containers/README.md.
#   IMAGE               the image file; built if it is not there
#   APPTAINER_BUILD     what stands for `apptainer build` (default)
#   APPTAINER           what stands for `apptainer`
#   APPTAINER_OPTIONS   of `run`, `exec` and `test`
#   TEMPLATES           names for --build-arg; `none` where there is no network
source "$(dirname "$0")/testing.sh"

find_inputs
prepare_apptainer

mkdir "$WORK/out" "$WORK/tmp"
run=("$PROGRAM" run "${IN_CONTAINER[@]}" --containall --no-home --bind "$WORK/tmp:/tmp"
    --bind "$DATASET:/data:ro" --bind "$MODEL:/model.json:ro" --bind "$WORK/out:/out")

say "the image's run"
start=$SECONDS
"${run[@]}" "$IMAGE" /data /out group --model /model.json "${OPTIONS[@]}" --nprocs 2
say "the image's run: $((SECONDS - start)) s"
only_links "$WORK/tmp"
grep -q '"Type": "apptainer"' "$WORK/out/dataset_description.json" || fail "GeneratedBy does not name the container"

compare_with_bare "$WORK/out"

say "apps"
"${run[@]}" --app fit "$IMAGE" --version
"${run[@]}" --app compare "$IMAGE" --version
"${run[@]}" --app worker "$IMAGE" --help >/dev/null
"$PROGRAM" test "${IN_CONTAINER[@]}" "$IMAGE"
"${run[@]}" "$IMAGE" --bids-exec-spec | cmp - "$CHECKOUT/boutiques/blmm_bids.json"

say "a host's PYTHONPATH stays outside"
mkdir "$WORK/shadow"
echo 'raise ImportError("the module of the host")' >"$WORK/shadow/numpy.py"
PYTHONPATH=$WORK/shadow "$PROGRAM" exec "${IN_CONTAINER[@]}" --bind "$WORK/shadow" "$IMAGE" \
    /opt/blmm/bin/python -c 'import numpy'
say "passed"
