"""The metrics by name: what `--metrics=psnr,ssim,lpips_vgg,...` can ask for.

    metric = features.metric("lpips_vgg")      # a `metric.Metric`; loads weights, checks sha256
    state = metric.init()
    for batch in batches:                      # uint8 arrays, mask False on padding
        state = metric.update(state, reference, candidate, mask, index=index)
    state = metric.merge(state, state_of_another_worker)
    metric.compute(state)                      # {"lpips_vgg": 0.21}
    metric.per_image(reference, candidate)     # [B], metrics that compare pairs
    metric.conditions                          # {"implementation": ..., "weights_sha256": ...}

States are flat dicts of NumPy arrays: save them with `np.savez`, gather them over processes with
`hosts.merged`. Metrics that share a network compute its features once when they are handed the
very same batch object one after another.
"""

from collections.abc import Callable, Sequence

from vitok_jax import errors
from vitok_jax.metrics import metric as metric_lib
from vitok_jax.metrics import paired

_MAKERS: dict[str, Callable[[], metric_lib.Metric]] = {
    "psnr": paired.psnr,
    "ssim": paired.ssim,
    "ms_ssim": paired.ms_ssim,
    "lpips_vgg": lambda: paired.lpips_on("vgg"),
    "lpips_alex": lambda: paired.lpips_on("alex"),
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
