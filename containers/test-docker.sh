#!/usr/bin/env bash
# Build the Docker image from this checkout and run it as an unprivileged user without network, home or
# writable root file system; its maps must be those of a bare run. See containers/README.md.
#   IMAGE          an image that is there already, not to be built
#   DOCKER_BUILD   what stands for `docker build` (default)
#   DOCKER_RUN     what stands for `docker run --rm` (default)
#   TEMPLATES      names for --build-arg; `none` where there is no network
source "$(dirname "$0")/testing.sh"

read -r -a build <<<"${DOCKER_BUILD:-docker build}"
read -r -a run <<<"${DOCKER_RUN:-docker run --rm}"
find_inputs

if [ -z "${IMAGE:-}" ]; then
    IMAGE=blmm-bids:test
    say "building $IMAGE"
    "${build[@]}" -t "$IMAGE" ${TEMPLATES:+--build-arg "TEMPLATES=$TEMPLATES"} "$CHECKOUT"
fi

# Nobody in particular, who may write to OUT and to /tmp alone.
mkdir -m 777 "$WORK/out"
# As /tmp is everywhere: where others could rename what is in it, no kernel is kept.
mkdir -m 1777 "$WORK/tmp"
locked=("${run[@]}" --network none --read-only --user 1234:1234 -e HOME=/nowhere
    -v "$DATASET:/data:ro" -v "$MODEL:/model.json:ro")

say "the image's run"
start=$SECONDS
"${locked[@]}" -v "$WORK/out:/out" -v "$WORK/tmp:/tmp" "$IMAGE" \
    /data /out group --model /model.json "${OPTIONS[@]}" --nprocs 2
say "the image's run: $((SECONDS - start)) s"
only_links "$WORK/tmp"
[ "$(stat -c %u "$WORK/out/dataset_description.json")" = 1234 ] || fail "outputs are another user's"
grep -q '"Type": "docker"' "$WORK/out/dataset_description.json" || fail "GeneratedBy does not name the container"

compare_with_bare "$WORK/out"

say "nothing but what the image itself keeps writable"
"${locked[@]}" "$IMAGE" /data /out group --model /model.json 2>"$WORK/refused" && fail "wrote into a read-only root"
grep -q 'OUTPUT_DIR /out cannot be written' "$WORK/refused" || fail "$(cat "$WORK/refused")"

say "Boutiques: a login shell finds the app, and the app its descriptor"
"${run[@]}" --network none --entrypoint /bin/sh "$IMAGE" -lc 'blmm-bids --bids-exec-spec' \
    | cmp - "$CHECKOUT/boutiques/blmm_bids.json"

if [ "${TEMPLATES:-}" = none ]; then
    say "--mask template without templates"
    code=0
    "${locked[@]}" -v "$WORK/out:/out" -v "$WORK/tmp:/tmp" "$IMAGE" \
        /data /out group --model /model.json --mask template 2>"$WORK/refused" || code=$?
    [ "$code" = 66 ] && grep -q TEMPLATEFLOW_HOME "$WORK/refused" || fail "exit $code: $(cat "$WORK/refused")"
fi
say "passed"
