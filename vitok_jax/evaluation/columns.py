"""How metrics are called and shown in tables."""

from collections.abc import Iterable, Mapping

from vitok_jax.evaluation import results
from vitok_jax.metrics import metric as metric_lib

# Label, unit and digits; a metric that is not listed is shown under its own name.
_SHOWN = {
    "psnr": ("PSNR", "dB", 2),
    "ssim": ("SSIM", "", 4),
    "ms_ssim": ("MS-SSIM", "", 4),
    "lpips_vgg": ("LPIPS (VGG)", "", 4),
    "lpips_alex": ("LPIPS (Alex)", "", 4),
    "dists": ("DISTS", "", 4),
    "fid": ("FID", "", 3),
    "sfid": ("sFID", "", 3),
    "kid": ("KID", "", 5),
    "inception_score": ("Inception Score", "", 2),
    "is": ("Inception Score", "", 2),
    "precision": ("Precision", "", 4),
    "recall": ("Recall", "", 4),
    "fd_efflite0": ("FD (EfficientNet-Lite0)", "", 3),
    "kid_efflite0": ("KID (EfficientNet-Lite0)", "", 5),
    "is_efflite0": ("IS (EfficientNet-Lite0)", "", 2),
    "fvd": ("FVD", "", 2),
}
_DIGITS = 4


def columns(
    metrics: Mapping[str, metric_lib.Metric], numbers: Iterable[str]
) -> list[results.Column]:
    """The columns of a table.

    Args:
      metrics: by name, in the order asked for.
      numbers: everything that was computed; a metric may give more numbers than its own, which
        carry its name and a suffix, and stand behind it.
    """
    made = []
    for number in _ordered(list(metrics), list(numbers)):
        name = _owner(list(metrics), number)
        metric = metrics[name]
        label, unit, digits = _SHOWN.get(number, (number, "", _DIGITS))
        made.append(
            results.Column(
                name=number,
                label=label,
                better=metric.better,
                scope="picture" if metric.compares == "pairs" else "set",
                unit=unit,
                digits=digits,
                implementation="; ".join(
                    value if key == "implementation" else f"{key.replace('_', ' ')} {value}"
                    for key, value in metric.conditions.items()
                ),
            )
        )
    return made


def _ordered(metrics: list[str], numbers: list[str]) -> list[str]:
    return sorted(numbers, key=lambda n: (metrics.index(_owner(metrics, n)), n not in metrics))


def _owner(metrics: list[str], number: str) -> str:
    """The metric a number belongs to: the longest name that it begins with."""
    return max((name for name in metrics if number.startswith(name)), key=len)
