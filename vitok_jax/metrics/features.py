"""The metrics by name: what `--metrics=psnr,ssim,lpips_vgg,...` can ask for.

    metric = features.metric("lpips_vgg")      # a `metric.Metric`; loads weights, checks sha256
    state = metric.init()
    for batch in batches:                      # uint8 arrays, mask False on padding
        state = metric.update(state, reference, candidate, mask, index=index)
    state = metric.merge(state, state_of_another_worker)
    metric.compute(state)                      # {"lpips_vgg": 0.21}
    metric.per_image(reference, candidate)     # [B], metrics that compare pairs
    metric.conditions                          # {"implementation": ..., "weights_sha256": ...}

States are flat dicts of NumPy arrays: save them with `np.savez`, gather them over processes, merge.
Metrics that share a network compute its features once when they are handed the same batch one
after another.

Names tell the truth: `fid`, `sfid`, `kid`, `is`, `precision` and `recall` need the published
Inception; on EfficientNet-Lite0 the same formulas carry its name. Given the frames of videos, the
metrics of pictures are per frame (`fid` is then the per-frame rFID).
"""

from collections.abc import Callable, Sequence

from vitok_jax import errors
from vitok_jax.metrics import extractors, paired, sets
from vitok_jax.metrics import metric as metric_lib

_MAKERS: dict[str, Callable[[], metric_lib.Metric]] = {
    "psnr": paired.psnr,
    "ssim": paired.ssim,
    "ms_ssim": paired.ms_ssim,
    "lpips_vgg": lambda: paired.lpips_on("vgg"),
    "lpips_alex": lambda: paired.lpips_on("alex"),
    "dists": paired.dists_on_vgg,
    "fid": lambda: sets.frechet_distance("fid", extractors.extractor("inception"), "pool"),
    "sfid": lambda: sets.frechet_distance("sfid", extractors.extractor("inception"), "spatial"),
    "kid": lambda: sets.kernel_distance("kid", extractors.extractor("inception"), "pool"),
    "is": lambda: sets.score("is", extractors.extractor("inception"), "logits"),
    "precision": lambda: sets.coverage(
        "precision", "precision", extractors.extractor("inception"), "pool"
    ),
    "recall": lambda: sets.coverage("recall", "recall", extractors.extractor("inception"), "pool"),
    "fd_efflite0": lambda: sets.frechet_distance(
        "fd_efflite0", extractors.extractor("efflite0"), "pool"
    ),
    "kid_efflite0": lambda: sets.kernel_distance(
        "kid_efflite0", extractors.extractor("efflite0"), "pool"
    ),
    "is_efflite0": lambda: sets.score("is_efflite0", extractors.extractor("efflite0"), "logits"),
    "precision_efflite0": lambda: sets.coverage(
        "precision_efflite0", "precision", extractors.extractor("efflite0"), "pool"
    ),
    "recall_efflite0": lambda: sets.coverage(
        "recall_efflite0", "recall", extractors.extractor("efflite0"), "pool"
    ),
    "fvd": lambda: sets.frechet_distance("fvd", extractors.extractor("i3d"), "logits"),
}
NAMES = tuple(_MAKERS)


def metric(name: str) -> metric_lib.Metric:
    """The metric of that name, ready to run.

    Raises:
      UsageError: no such metric, or its weights are missing or damaged.
    """
    if name not in _MAKERS:
        raise errors.unknown("metrics", name, NAMES)
    return _MAKERS[name]()


def metrics(names: Sequence[str]) -> dict[str, metric_lib.Metric]:
    """Several metrics by name, in the order given.

    Raises:
      UsageError: none or a repeated name, no such metric, or missing weights.
    """
    if not names:
        raise errors.UsageError(f"metrics: none given; allowed: {', '.join(NAMES)}")
    if len(set(names)) != len(names):
        raise errors.UsageError(f"metrics: {','.join(names)} names one of them twice")
    return {name: metric(name) for name in names}
