import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_it_prints_a_ratio(picture_folder):
    done = subprocess.run(
        [
            *(sys.executable, "benchmarks/input.py", f"--input={picture_folder}", "--size=32"),
            *("--batch_size=4", "--workers=1", "--batches=2", "--turns=2"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "11 pictures, 32 px, 1 workers, 2 turns of 8 pictures" in done.stdout
    ours, theirs, ratio = map(
        float,
        re.search(r"median: .*?([\d.]+) p.*?([\d.]+) p.*ratio ([\d.]+)", done.stdout).groups(),
    )
    assert ours > 0
    assert theirs > 0
    assert 0 < ratio < 100
