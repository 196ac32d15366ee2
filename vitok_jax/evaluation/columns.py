"""How metrics are called and shown in tables."""

from collections.abc import Mapping

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
    "is": ("Inception Score", "", 2),
    "precision": ("Precision", "", 4),
    "recall": ("Recall", "", 4),
    "fd_efflite0": ("FD (EfficientNet-Lite0)", "", 3),
    "kid_efflite0": ("KID (EfficientNet-Lite0)", "", 5),
    "is_efflite0": ("IS (EfficientNet-Lite0)", "", 2),
    "precision_efflite0": ("Precision (EfficientNet-Lite0)", "", 4),
    "recall_efflite0": ("Recall (EfficientNet-Lite0)", "", 4),
    "fvd": ("FVD", "", 2),
}
_DIGITS = 4


def columns(metrics: Mapping[str, metric_lib.Metric]) -> list[results.Column]:
    """The columns of a table, one for each metric, in the order asked for."""
    made = []
    for name, metric in metrics.items():
        label, unit, digits = _SHOWN.get(name, (name, "", _DIGITS))
        made.append(
            results.Column(
                name=name,
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
