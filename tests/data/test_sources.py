import os
import pathlib
import pickle
import sys

import numpy as np
import pytest
from etils import epath
from PIL import Image

from vitok_jax import errors
from vitok_jax.data import decode, embedded, record, sources


def write_shard(path, records):
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for item in records:
        writer.write(item)
    writer.close()


def packed(encoded, count, start=0):
    return [
        record.pack(record.Record(encoded(n), n % 3, f"picture {n}"))
        for n in range(start, start + count)
    ]


class TestSpecifications:
    def test_parts_and_weights(self):
        got = sources.parse_mixture("folder:/a@0.7,tfds:x/y:1.0.0:train[:10%]@0.3")
        assert got == (
            sources.Part("folder:/a", 0.7),
            sources.Part("tfds:x/y:1.0.0:train[:10%]", 0.3),
        )

    def test_paths_may_hold_commas_and_at_signs(self):
        assert sources.parse_mixture("folder:/a,b/c") == (sources.Part("folder:/a,b/c", None),)
        assert sources.parse_mixture("folder:/a@b@2") == (sources.Part("folder:/a@b", 2.0),)

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ("", "empty"),
            ("photos@heavy", "'heavy' is not a number"),
            ("photos@0", "not positive"),
            ("photos@-1", "not positive"),
            ("photos@nan", "not positive"),
            ("photos@inf", "not positive"),
            ("photos:train@1,photos:heldout", "photos:heldout has no weight"),
        ],
    )
    def test_bad_weights(self, spec, said):
        with pytest.raises(errors.UsageError, match=said):
            sources.parse_mixture(spec)

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ("pictures:/a", "unknown source 'pictures:/a'; allowed: photos"),
            ("/a/b", "unknown source"),
            ("folder:", "names nothing"),
            ("folder:/there/is/none", "no such folder"),
            ("arrayrecord:/there/is/*.none", "matches no file"),
            ("photos:test", "unknown value 'test'"),
            ("tfds:[", "allowed: tfds:NAME"),
            ("tfds:no_such_set_here", "TFDS does not find it"),
        ],
    )
    def test_sources_that_are_not_there(self, spec, said):
        with pytest.raises(errors.UsageError, match=said) as raised:
            sources.open_source(spec)
        assert "\n" not in str(raised.value)


class TestEmbedded:
    def test_all_photos_decode_and_splits_are_disjoint(self):
        names = {}
        for split, count in (("train", 27), ("heldout", 4)):
            photos = embedded.EmbeddedPhotos(split)
            assert len(photos) == count
            entries = [photos[i] for i in range(count)]
            names[split] = {entry.name for entry in entries}
            for entry in entries:
                pixels = decode.decode_image(entry.data)
                assert min(pixels.shape[:2]) >= 300
                # A photograph has colours; a drawing or a grey picture would not.
                assert pixels.reshape(-1, 3).std(0).min() > 10
                assert np.abs(pixels[..., 0].astype(int) - pixels[..., 2]).mean() > 1
        assert not names["train"] & names["heldout"]
        assert {os.path.basename(name) for name in names["heldout"]} == {
            "chelsea.png",
            "coffee.png",
            "rocket.jpg",
            "china.jpg",
        }
        assert len(embedded.EmbeddedPhotos("all")) == 31

    def test_labels_are_those_in_the_names(self):
        photos = embedded.EmbeddedPhotos("train")
        labels = {entry.name: entry.label for entry in map(photos.__getitem__, range(27))}
        assert labels["photos/imagenet_16_251.jpg"] == 251
        assert labels["photos/astronaut.png"] == record.NO_LABEL
        assert sum(label != record.NO_LABEL for label in labels.values()) == 20

    def test_packages_are_not_imported(self):
        assert "foolbox" not in sys.modules

    def test_a_missing_package_is_named(self, monkeypatch):
        monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(errors.UsageError, match=r"scikit-image==.* not installed"):
            embedded.EmbeddedPhotos("train")


class TestFolder:
    def test_order_labels_and_bytes(self, picture_folder):
        source = sources.open_source(f"folder:{picture_folder}")
        assert len(source) == 11
        entries = [source[i] for i in range(11)]
        assert [entry.name for entry in entries][:5] == [
            *("apples/00.jpg", "apples/01.png", "apples/02.jpg", "apples/03.png"),
            "pears/04.jpg",
        ]
        assert [entry.label for entry in entries] == [0] * 4 + [1] * 7
        assert entries[5].data == (picture_folder / "pears/05.png").read_bytes()
        assert source.classes == ("apples", "pears")

    def test_flat_nested_hidden_and_foreign_files(self, tmp_path, encoded):
        for name in ("b.PNG", "a.png", ".hidden.png", "notes.txt", "x/deep/er/c.jpg", ".no/d.png"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(1))
        source = sources.open_source(f"folder:{tmp_path}")
        entries = [source[i] for i in range(len(source))]
        assert [e.name for e in entries] == ["a.png", "b.PNG", "x/deep/er/c.jpg"]
        assert [e.label for e in entries] == [record.NO_LABEL, record.NO_LABEL, 0]

    def test_symbolic_links_are_followed_but_not_in_circles(self, tmp_path, encoded):
        real = tmp_path / "elsewhere"
        real.mkdir()
        (real / "a.png").write_bytes(encoded(1))
        root = tmp_path / "root"
        root.mkdir()
        (root / "cats").symlink_to(real)
        (real / "back").symlink_to(root)
        source = sources.open_source(f"folder:{root}")
        assert [source[i].name for i in range(len(source))] == ["cats/a.png"]

    def test_names_of_any_bytes(self, tmp_path, encoded):
        (tmp_path / "ähm ☃.png").write_bytes(encoded(1))
        with open(os.fsencode(tmp_path) + b"/z\xff.png", "wb") as file:
            file.write(encoded(2))
        source = pickle.loads(pickle.dumps(sources.open_source(f"folder:{tmp_path}")))
        assert source[0].data == encoded(2) or source[1].data == encoded(2)
        assert len(source) == 2

    def test_a_bucket_gives_what_a_folder_gives(self, picture_folder, bucket):
        for path in picture_folder.rglob("*.*"):
            target = epath.Path(bucket) / "set" / path.relative_to(picture_folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        near = sources.open_source(f"folder:{picture_folder}")
        far = sources.open_source(f"folder:{bucket}/set")
        assert [far[i] for i in range(11)] == [near[i] for i in range(11)]
        assert far.fingerprint() == near.fingerprint()
        with pytest.raises(errors.UsageError, match="no such folder"):
            sources.open_source(f"folder:{bucket}/other")

    def test_an_empty_folder(self, tmp_path):
        (tmp_path / "notes.txt").write_text("no picture")
        with pytest.raises(errors.UsageError, match="holds no pictures"):
            sources.open_source(f"folder:{tmp_path}")

    def test_the_fingerprint_follows_the_files(self, tmp_path, encoded):
        (tmp_path / "a.png").write_bytes(encoded(1))
        before = sources.open_source(f"folder:{tmp_path}").fingerprint()
        assert sources.open_source(f"folder:{tmp_path}").fingerprint() == before
        (tmp_path / "b.png").write_bytes(encoded(1))
        assert sources.open_source(f"folder:{tmp_path}").fingerprint() != before


class TestArrayRecord:
    def test_records_of_several_files(self, tmp_path, encoded):
        write_shard(tmp_path / "b.array_record", packed(encoded, 3, start=2))
        write_shard(tmp_path / "a.array_record", packed(encoded, 2))
        source = sources.open_source(f"arrayrecord:{tmp_path}/*.array_record")
        source = pickle.loads(pickle.dumps(source))
        assert len(source) == 5
        got = [source[i] for i in range(5)]
        assert [g.name for g in got] == [f"picture {n}" for n in range(5)]
        assert [g.label for g in got] == [0, 1, 2, 0, 1]
        assert got[4].data == encoded(4)

    def test_foreign_records_and_foreign_files(self, tmp_path, encoded):
        write_shard(tmp_path / "a.rec", [b"something else"])
        with pytest.raises(errors.UsageError, match="not a packed picture"):
            sources.open_source(f"arrayrecord:{tmp_path}/a.rec")
        (tmp_path / "b.rec").write_bytes(encoded(1) * 100)
        with pytest.raises(errors.UsageError, match=r"b\.rec is truncated or not ArrayRecord"):
            sources.open_source(f"arrayrecord:{tmp_path}/b.rec")

    def test_a_file_that_breaks_off_and_one_that_is_damaged(self, tmp_path, encoded):
        records = packed(lambda n: np.random.default_rng(n).bytes(50_000), 20)
        write_shard(tmp_path / "a.rec", records)
        whole = (tmp_path / "a.rec").read_bytes()
        (tmp_path / "b.rec").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(errors.UsageError, match="truncated"):
            sources.open_source(f"arrayrecord:{tmp_path}/[ab].rec")
        damaged = bytearray(whole)
        damaged[500_000:500_100] = bytes(100)
        (tmp_path / "c.rec").write_bytes(damaged)
        source = sources.open_source(f"arrayrecord:{tmp_path}/c.rec")
        failed = 0
        for i in range(20):
            try:
                source[i]
            except OSError:
                failed += 1
        assert failed == 1

    def test_unpack_refuses_other_maps(self):
        import msgpack

        for data in (b"", b"\xc1", msgpack.packb([1]), msgpack.packb({"format": "other"})):
            with pytest.raises(ValueError, match="not a packed picture"):
                record.unpack(data)


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory, encoded):
    """A prepared set of six pictures in two files, as `tfds build` leaves it."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.proto import tf_example_pb2

    root = tmp_path_factory.mktemp("tfds")
    folder = root / "tiny_set" / "1.0.0"
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "file_name": tfds.features.Text(),
            "box": tfds.features.BBoxFeature(),
        }
    )
    for shard in range(2):
        examples = []
        for number in range(3 * shard, 3 * shard + 3):
            example = tf_example_pb2.Example()
            feature = example.features.feature
            feature["image"].bytes_list.value.append(encoded(number))
            feature["label"].int64_list.value.append(number % 2)
            feature["file_name"].bytes_list.value.append(f"n{number}.png".encode())
            feature["box"].float_list.value.extend([0.0, 0.0, 1.0, 1.0])
            examples.append(example.SerializeToString())
        write_shard(folder / f"tiny_set-train.array_record-{shard:05d}-of-00002", examples)
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=features,
        split_infos=[tfds.core.SplitInfo(name="train", shard_lengths=[3, 3], num_bytes=100)],
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        check_data=False,
    )
    return root


class TestTfds:
    @pytest.fixture(autouse=True)
    def _place(self, tfds_dir, monkeypatch):
        from tensorflow_datasets.core import constants
        from tensorflow_datasets.core.utils import file_utils

        monkeypatch.setattr(constants, "DATA_DIR", str(tfds_dir))
        monkeypatch.setattr(file_utils.constants, "DATA_DIR", str(tfds_dir))

    @pytest.mark.parametrize("spec", ["tiny_set", "tiny_set:1.0.0", "tiny_set:1.0.0:train"])
    def test_bytes_come_as_they_were_stored(self, spec, encoded):
        source = pickle.loads(pickle.dumps(sources.open_source(f"tfds:{spec}")))
        assert len(source) == 6
        got = [source[i] for i in range(6)]
        assert [g.data for g in got] == [encoded(n) for n in range(6)]
        assert [g.label for g in got] == [0, 1, 0, 1, 0, 1]
        assert [g.name for g in got] == [f"n{n}.png" for n in range(6)]
        assert "tensorflow" not in sys.modules

    def test_slices_of_splits(self, encoded):
        source = sources.open_source("tfds:tiny_set:train[50%:]")
        assert [source[i].data for i in range(len(source))] == [encoded(n) for n in (3, 4, 5)]

    def test_an_unknown_split(self):
        with pytest.raises(errors.UsageError, match="Unknown split 'val'"):
            sources.open_source("tfds:tiny_set:val")


class TestRecords:
    def test_a_union_is_one_group_and_a_mixture_several(self, picture_folder):
        folder = f"folder:{picture_folder}"
        union = sources.Records(f"photos:heldout,{folder}")
        assert len(union) == 15
        assert [(g.first, g.length) for g in union.groups()] == [(0, 15)]
        assert union[4].name == "apples/00.jpg"
        assert union.siblings(2) == range(0, 4)
        assert union.siblings(4) == range(4, 15)
        mixture = sources.Records(f"photos:heldout@3,{folder}@1")
        assert [(g.first, g.length, g.weight) for g in mixture.groups()] == [
            (0, 4, 3.0),
            (4, 11, 1.0),
        ]

    def test_every_kind_of_picture_has_a_suffix_that_pillow_knows(self):
        known = Image.registered_extensions()
        assert set(known) >= decode.SUFFIXES - {".jpx", ".jp2", ".j2k"}
        assert pathlib.Path("a.JPG").suffix.lower() in decode.SUFFIXES
