"""The binaries as a user calls them: exit codes, one line, and a kill -9 in between."""

import dataclasses
import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests import processes
from tests.evaluation import tiny
from vitok_jax.training import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(module: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", f"vitok_jax.{module}", *arguments],
        cwd=ROOT,
        env=processes.environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(module: str, *arguments: str) -> tuple[int, str, str]:
    process = start(module, *arguments)
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err


def asked(workdir, folder, out) -> list[str]:
    return [
        f"--checkpoint={workdir}",
        f"--data=folder:{folder}",
        f"--out={out}",
        "--metrics=psnr",
        "--yardsticks=bicubic,pca",
        f"--fit=folder:{folder}",
        "--size=32",
        "--batch_size=1",
        "--snapshot_seconds=0",
    ]


@pytest.fixture(scope="module")
def many(tmp_path_factory, photos):
    """Enough pictures to be killed among."""
    root = tmp_path_factory.mktemp("many")
    for i in range(60):
        Image.fromarray(np.roll(photos[1], i, axis=1)).save(root / f"{i:02d}.png")
    return root


def test_evaluate_and_the_same_after_a_kill(workdir, many, tmp_path):
    code, out, err = run("evaluate", *asked(workdir, many, tmp_path / "whole"))
    assert code == 0, err
    assert not re.search(r"orbax|checkpoint", err, re.IGNORECASE), "only the bar"
    last = out.strip().splitlines()[-1]
    stored = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert last.startswith(f"tiny: PSNR {stored['psnr']:.2f} dB (bicubic ")
    assert f"pca {stored['psnr_pca']:.2f} dB" in last
    assert "60/60" in err, "the bar ends with all pictures"

    killed = start("evaluate", *asked(workdir, many, tmp_path / "killed"))
    partial = tmp_path / "killed" / "partial-0.npz"
    deadline = time.monotonic() + 120
    while not partial.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert partial.exists()
    assert not (tmp_path / "killed" / "result.json").exists()
    code, _, err = run("evaluate", *asked(workdir, many, tmp_path / "killed"))
    assert code == 0, err
    assert " 0/60" not in err, "it went on where it was killed"
    whole, again = ((tmp_path / name / "result.json").read_bytes() for name in ("whole", "killed"))
    assert whole == again


def test_latent_statistics_go_into_the_checkpoint(folder, tmp_path):
    data = dataclasses.replace(tiny.CONFIG.data, train=f"folder:{folder}")
    workdir = tiny.save(tmp_path / "run", dataclasses.replace(tiny.CONFIG, data=data))
    assert "latent_stats" not in checkpoint.read_metadata(workdir)
    question = [*asked(workdir, folder, tmp_path / "out"), "--yardsticks="]
    code, _, err = run("evaluate", *question, "--write_latent_stats")
    assert code == 0, err
    stats = checkpoint.read_metadata(workdir)["latent_stats"]
    assert [len(stats[key]) for key in ("mean", "std")] == [12, 12]
    assert min(stats["std"]) > 0


def test_reconstruct(workdir, folder, tmp_path):
    arguments = [f"--checkpoint={workdir}", f"--input={folder}", f"--out={tmp_path / 'out'}"]
    code, out, err = run("reconstruct", *arguments)
    assert code == 0, err
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert "Tokenizer(w32d1h1-w32d1h1/1x8x12" in out
    assert "overlapping tiles of 32x32" in out


def test_bad_commands_are_one_line_and_exit_code_2(workdir, folder, tmp_path):
    for module, arguments, said in (
        ("evaluate", [f"--checkpoint={tmp_path}", f"--out={tmp_path / 'o'}"], "no checkpoint"),
        ("reconstruct", ["--checkpoint=a", "--out=b"], "--input is missing"),
    ):
        code, out, err = run(module, *arguments)
        assert code == 2
        assert out == ""
        (line,) = [one for one in err.splitlines() if one.startswith("error: ")]
        assert said in line
        assert "Traceback" not in err


@pytest.mark.parametrize("flag", ["--data=photos", "--step=1", "--ema", "--write_latent_stats"])
def test_folders_refuse_what_they_would_not_read(folder, tmp_path, flag):
    code, _, err = run("evaluate", f"--folders={folder},{folder}", f"--out={tmp_path}", flag)
    assert code == 2
    assert "does not go with --folders, which does not read it" in err


def test_an_exported_folder_takes_no_latent_statistics(workdir, tmp_path):
    exported = tmp_path / "exported"
    assert run("export", f"--checkpoint={workdir}", f"--out={exported}")[0] == 0
    arguments = (f"--checkpoint={exported}", "--write_latent_stats", f"--out={tmp_path / 'o'}")
    code, _, err = run("evaluate", *arguments)
    assert code == 2
    assert "latent statistics are noted in checkpoints; allowed: a workdir" in err
