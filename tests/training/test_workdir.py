"""Who may go on in a workdir, and with which settings."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.training import workdir

CONFIG = config_lib.TokenizerConfig()


def changed(section: str, **values: object) -> config_lib.TokenizerConfig:
    part = dataclasses.replace(getattr(CONFIG, section), **values)
    return dataclasses.replace(CONFIG, **{section: part})


def test_a_second_process_is_refused_until_the_first_dies(tmp_path: pathlib.Path) -> None:
    code = (
        "import sys; from vitok_jax.training import workdir\n"
        "lock = workdir.Lock(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(errors.UsageError, match=f"is in use by process {holder.pid} on"):
            workdir.Lock(tmp_path)
        holder.kill()
        holder.wait()
    with workdir.Lock(tmp_path):
        pass
    with workdir.Lock(tmp_path):  # leaving the block has let go
        pass


def test_buckets_have_no_lock_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="vitok_jax"), workdir.Lock("gs://bucket/run"):
        pass
    assert "nothing keeps a second run out" in caplog.text


def test_new_and_empty_folders_are_taken(tmp_path: pathlib.Path) -> None:
    workdir.prepare(tmp_path / "a" / "b")
    workdir.prepare(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / ".config.json.0123.tmp").touch()  # a kill while it was written
    workdir.prepare(tmp_path / "a" / "b")


def test_other_folders_are_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(errors.UsageError, match=r"holds 'thesis.tex' but no config.json"):
        workdir.prepare(tmp_path)
    with pytest.raises(errors.UsageError, match="is a file"):
        workdir.prepare(tmp_path / "thesis.tex")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_settings_are_written_once_and_compared_after(tmp_path: pathlib.Path) -> None:
    workdir.reconcile(tmp_path, CONFIG)
    before = (tmp_path / "config.json").read_bytes()
    workdir.reconcile(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_bytes() == before
    assert json.loads(before)["model"]["variant"] == "S-B/16"


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (changed("model", variant="B-B/16"), "model.variant"),
        (changed("data", batch_size=512), "data.batch_size"),
        (changed("data", crop_scale=(0.5, 1.0)), "data.crop_scale"),
        (changed("loss", kl=0.5), "loss.kl"),
        (changed("optimizer", learning_rate=1.0), "optimizer.learning_rate"),
        (dataclasses.replace(CONFIG, seed=1), "seed"),
    ],
)
def test_what_changes_the_result_is_refused(
    tmp_path: pathlib.Path, config: config_lib.TokenizerConfig, key: str
) -> None:
    workdir.reconcile(tmp_path, CONFIG)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(errors.UsageError, match=f"other settings .{key}: .* there, .* now"):
        workdir.reconcile(tmp_path, config)
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (changed("data", workers=1), "data.workers"),
        (changed("data", prefetch=5), "data.prefetch"),
        (changed("data", eval="folder:/x", eval_num=3), "data.eval"),
        (changed("training", steps=5), "training.steps"),
        (changed("training", log_every=1), "training.log_every"),
        (changed("checkpoint", keep=9), "checkpoint.keep"),
        (changed("mesh", preset="fsdp", fsdp=8), "mesh.fsdp"),
        (changed("model", remat="full", layers="loop"), "model.remat"),
        (dataclasses.replace(CONFIG, init_from="/elsewhere"), "init_from"),
    ],
)
def test_what_may_change_is_told_and_kept(
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    config: config_lib.TokenizerConfig,
    key: str,
) -> None:
    workdir.reconcile(tmp_path, CONFIG)
    with caplog.at_level("INFO", logger="vitok_jax"):
        workdir.reconcile(tmp_path, config)
    assert f"config.{key}: " in caplog.text
    stored = json.loads((tmp_path / "config.json").read_text())
    assert config_lib.from_config_dict(config_lib.TokenizerConfig, stored) == config


def test_a_workdir_from_before_a_setting_existed_goes_on(tmp_path: pathlib.Path) -> None:
    workdir.reconcile(tmp_path, CONFIG)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["model"]["time_attention"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    workdir.reconcile(tmp_path, CONFIG)


@pytest.mark.parametrize("content", ["{", "[]", '{"colour": 1}', '{"seed": "x"}'])
def test_a_foreign_config_is_one_line(tmp_path: pathlib.Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(errors.UsageError, match="is not of a run like this one") as caught:
        workdir.reconcile(tmp_path, CONFIG)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "config.json").read_text() == content


def test_a_bucket_without_its_packages_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    with pytest.raises(errors.UsageError, match="gs:// needs the packages gcsfs and google-cloud"):
        workdir.prepare("gs://bucket/run")
