"""`launch/slurm.sbatch` on a real SLURM: two nodes of its own daemons on this machine."""

import contextlib
import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests import processes, required
from vitok_jax.training import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 180  # seconds
# No security at all: daemons, job and user are one and the same, on loopback. A job waits for
# `cred_expire` before it runs again (120 s unless told): until then nodes hold it for the dead one.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmUser={user}
SlurmdUser={user}
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
StateSaveLocation={folder}/state
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName={first} NodeHostname={host} NodeAddr=127.0.0.1 Port={port_1} CPUs={cpus}
NodeName={second} NodeHostname={host} NodeAddr=127.0.0.1 Port={port_2} CPUs={cpus}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in made:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in made]


class Cluster:
    """Two nodes and a controller."""

    def __init__(self, folder: pathlib.Path):
        self.log = folder / "daemons.log"
        self.environment = processes.environment(
            devices=2,
            SLURM_CONF=str(folder / "slurm.conf"),
            PATH=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        )

    def __call__(self, *command: str, check: bool = True) -> str:
        return subprocess.run(
            command,
            env=self.environment,
            cwd=ROOT,
            check=check,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
        ).stdout.strip()

    def until(self, what: str, true: Callable[[], bool], *logs: pathlib.Path) -> None:
        """Waits, or fails with what the daemons, and `logs`, told."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > deadline:
                told = "\n".join(log.read_text() for log in (self.log, *logs) if log.exists())
                pytest.fail(f"not in {PATIENCE} s: {what}\n{told}")
            time.sleep(0.2)

    def ready(self) -> bool:
        return self("sinfo", "--noheader", "--format=%D %t", check=False) == "2 idle"

    def state(self, job: str) -> str:
        return self("squeue", "--noheader", f"--jobs={job}", "--format=%T")


@pytest.fixture
def cluster(tmp_path: pathlib.Path) -> Iterator[Cluster]:
    if not all(shutil.which(name) for name in ("slurmctld", "slurmd")):
        required.missing("SLURM is not installed: apt-get install slurm-wlm")
    # Process 0 is found by the name of the first node: it has to be the name of this machine.
    host = socket.gethostname()
    nodes = (host, f"{host}-second")
    for name in ("state", *nodes):
        (tmp_path / name).mkdir()
    controller, port_1, port_2 = free_ports(3)
    names = {"host": host, "first": nodes[0], "second": nodes[1], "user": getpass.getuser()}
    (tmp_path / "slurm.conf").write_text(
        CONFIG.format(
            **names,
            folder=tmp_path,
            controller=controller,
            port_1=port_1,
            port_2=port_2,
            cpus=os.cpu_count(),
        )
    )
    made = Cluster(tmp_path)
    commands = [["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in nodes)]
    with made.log.open("w") as told:
        daemons = [
            subprocess.Popen(command, env=made.environment, stdout=told, stderr=told)
            for command in commands
        ]
    try:
        made.until("both nodes are idle", made.ready)
        yield made
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()


@pytest.mark.slow
def test_a_stopped_job_goes_on(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    """Two nodes train; SIGTERM, as before the time limit; the job queues itself and goes on."""
    workdir, log = tmp_path / "run", tmp_path / "job.log"
    submitted = cluster(
        *("sbatch", "--parsable", "--nodes=2", f"--output={log}", "launch/slurm.sbatch"),
        *("vitok_jax.train_tokenizer", "--config=configs/tokenizer/digits.py"),
        *(f"--workdir={workdir}", "--config.training.steps=1000000"),
        "--config.data.batch_size=16",
    )
    job = submitted.partition(";")[0]
    try:
        cluster.until("a step", lambda: log.exists() and " step 1/" in log.read_text(), log)
        assert "processes: 2" in log.read_text()
        cluster("scancel", "--signal=TERM", job)
        cluster.until("back in the queue", lambda: cluster.state(job) == "PENDING", log)
        told = log.read_text()
        assert told.count("Exited with exit code 143") == 2, told
        (stopped,) = checkpoint.steps(workdir)
        assert f"stopped after step {stopped}; the same command goes on" in told

        cluster.until("on its way again", lambda: f" step {stopped + 1}/" in log.read_text(), log)
        assert f"going on from step {stopped}" in log.read_text()
    finally:
        cluster("scancel", "--signal=KILL", "--full", job, check=False)  # it may have ended
        cluster.until("gone", lambda: cluster.state(job) in ("", "PENDING"), log)
