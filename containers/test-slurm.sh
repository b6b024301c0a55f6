#!/usr/bin/env bash
# The whole chain: the app in an Apptainer image submits jobs to the Slurm at hand, whose client is bound in
# from here; the workers in those jobs enter the image again. The maps must be those of a bare run.
# See containers/README.md.
#   IMAGE and so on   as for test-apptainer.sh; compute nodes see the file under the same path
#   JOB_PROLOGUE      a shell line that puts `apptainer` on the PATH of jobs, `module load apptainer` say
source "$(dirname "$0")/testing.sh"

find_inputs
prepare_apptainer

# setting NAME: Slurm's own answer.
setting() { scontrol show config | sed -n "s/^$1 *= *//p"; }

# What a client needs beside itself: its libraries and plugins, its configuration, and munge's socket.
conf=$(setting SLURM_CONF)
socket=$(setting AuthInfo | sed -n 's/.*socket=\([^,]*\).*/\1/p')
binds=(--bind "$conf:$conf:ro" --bind "$(dirname "${socket:-/run/munge/munge.socket.2}")")
plugins=$(setting PluginDir)
binds+=(--bind "$plugins:$plugins:ro")
for command in sbatch squeue scancel; do
    binds+=(--bind "$(command -v "$command"):/usr/local/bin/$command:ro")
done
munge=$(ldconfig -p | sed -n 's/.*libmunge\.so\.2.* => //p' | head -1)
binds+=(--bind "$(readlink -f "$munge"):$munge:ro")

cat >"$WORK/cluster.yml" <<YAML
jobqueue:
  slurm:
    cores: 1
    memory: 1GB
    walltime: '00:30:00'
    job-script-prologue: ['${JOB_PROLOGUE:-true}']
YAML

# By way of a link, as to many a home and scratch directory; in the container it is none.
links=$(mktemp -d)
trap 'rm -rf "$WORK" "$links"' EXIT
ln -s "$(dirname "$DATASET")" "$links/data"
linked=$links/data/$(basename "$DATASET")

n_jobs() { scontrol -o show jobs | grep -c 'JobName=blmm-worker' || true; }

say "the image's run, its workers in jobs"
before=$(n_jobs)
start=$SECONDS
"$PROGRAM" run "${IN_CONTAINER[@]}" --containall --no-home --env "SLURM_CONF=$conf" "${binds[@]}" \
    --bind "$WORK" --bind "$linked:$linked:ro" --bind "$MODEL:$MODEL:ro" "$IMAGE" \
    "$linked" "$WORK/out" group --model "$MODEL" "${OPTIONS[@]}" \
    --cluster slurm --cluster-config "$WORK/cluster.yml" --n-workers 2
say "the image's run: $((SECONDS - start)) s"
jobs=$(($(n_jobs) - before))
[ "$jobs" -ge 2 ] || fail "$jobs jobs were submitted; wanted 2"
grep -q '"Type": "apptainer"' "$WORK/out/dataset_description.json" || fail "GeneratedBy does not name the container"
[ -z "$(squeue -h --name blmm-worker)" ] || fail "jobs are left: $(squeue -h --name blmm-worker)"

compare_with_bare "$WORK/out"
say "passed"
