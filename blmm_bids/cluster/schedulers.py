"""The schedulers by name: their commands, and what their job scripts need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scheduler:
    """A batch scheduler.

    Attributes
    ----------
    name : str
        As in ``--cluster``, and in dask-jobqueue's configuration.
    cluster_class : str
        In dask-jobqueue.
    submit, cancel : str
        Its commands.
    client_paths : tuple of str
        What a container has to be lent for them to work, where it usually is.
    directory_directive : str, optional
        Says where a job starts; with the directory in braces.
    clean_directive : str, optional
        Keeps the environment of the submitting process out of a job.
    directives : tuple of (str, str)
        Added unless the user has one that starts like the first of a pair.
    script_is_inline : bool
        dask-jobqueue reads the script and sends its text.
    """

    name: str
    cluster_class: str
    submit: str
    cancel: str
    client_paths: tuple[str, ...]
    directory_directive: str | None = None
    clean_directive: str | None = None
    directives: tuple[tuple[str, str], ...] = ()
    script_is_inline: bool = False


_PBS_PATHS = ("/opt/pbs", "/etc/pbs.conf", "/var/spool/pbs")
_KNOWN = (
    Scheduler(
        "slurm",
        "SLURMCluster",
        "sbatch",
        "scancel",
        (
            "/usr/bin/sbatch",
            "/usr/bin/scancel",
            "/usr/lib64/slurm",
            "/usr/lib64/libmunge.so.2",
            "/etc/slurm",
            "/run/munge",
        ),
        directory_directive="--chdir={}",
        clean_directive="--export=NONE",
    ),
    Scheduler(
        "sge",
        "SGECluster",
        "qsub",
        "qdel",
        (
            "$SGE_ROOT",
            "$SGE_ROOT/bin/lx-amd64/qsub:/usr/bin/qsub",
            "$SGE_ROOT/bin/lx-amd64/qdel:/usr/bin/qdel",
        ),
        directory_directive="-wd {}",
        # Many sites still start jobs with csh.
        directives=(("-S", "-S /bin/bash"),),
    ),
    Scheduler("pbs", "PBSCluster", "qsub", "qdel", _PBS_PATHS),
    Scheduler(
        "lsf",
        "LSFCluster",
        "bsub",
        "bkill",
        ("$LSF_BINDIR", "$LSF_LIBDIR", "$LSF_ENVDIR", "$LSF_SERVERDIR"),
        directory_directive="-cwd {}",
        clean_directive="-env none",
    ),
    Scheduler(
        "htcondor",
        "HTCondorCluster",
        "condor_submit",
        "condor_rm",
        ("/usr/bin/condor_submit", "/usr/bin/condor_rm", "/etc/condor", "/usr/lib64/condor"),
    ),
    Scheduler(
        "oar",
        "OARCluster",
        "oarsub",
        "oardel",
        ("/usr/bin/oarsub", "/usr/bin/oardel", "/usr/lib/oar", "/etc/oar"),
        directory_directive="-d {}",
        script_is_inline=True,
    ),
    Scheduler(
        "moab",
        "MoabCluster",
        "msub",
        "canceljob",
        ("/opt/moab", "/opt/torque", "/var/spool/moab"),
        directory_directive="-d {}",
    ),
)
SCHEDULERS = {scheduler.name: scheduler for scheduler in _KNOWN}
# Jobs that the user submits.
EXTERNAL = Scheduler("external", "", "", "", ())
