"""One stream of pictures through every kind of metric, by one process or as one of several.

python merging.py OUT PORT PROCESS PROCESSES
"""

import functools
import sys

import numpy as np

_NUM, _SIDE = 53, 16


def metrics():
    """Means, moments, samples and class sums; a random network stands in for a trained one."""
    import jax
    import jax.numpy as jnp

    from vitok_jax.metrics import extractors, features, sets

    rng = np.random.default_rng(0)
    params = [rng.normal(size=shape).astype(np.float32) for shape in ((768, 64), (64, 32))]

    def network(params, pixels):
        hidden = jax.nn.relu(pixels.reshape(len(pixels), -1) @ params[0] / 28)
        return {"pool": jnp.tanh(hidden @ params[1] / 8), "logits": hidden[:, :10]}

    extractor = extractors.Extractor(
        "efflite0", "pictures", lambda x: x / 128 - 1, network, params, 3, "random network"
    )
    return {
        **features.metrics(["psnr", "ssim"]),
        "fd": sets.frechet_distance("fd", extractor, "pool"),
        "kd": sets.kernel_distance("kd", extractor, "pool"),
        "score": sets.score("score", extractor, "logits"),
        "recall": sets.coverage("recall", "recall", extractor, "pool"),
    }


def states(part, batch_size):
    """States after the pictures of a part, in batches whose last one is filled up."""
    rng = np.random.default_rng(1)
    reference, noise = rng.integers(0, 200, (2, _NUM, _SIDE, _SIDE, 3))
    candidate = (reference + noise // 8).astype(np.uint8)
    chosen = metrics()
    found = {name: metric.init() for name, metric in chosen.items()}
    index = np.arange(_NUM)[part]
    for start in range(0, len(index), batch_size):
        rows = index[start : start + batch_size]
        mask = np.arange(batch_size) < len(rows)
        rows = np.pad(rows, (0, batch_size - len(rows)))
        for name, metric in chosen.items():
            found[name] = metric.update(
                found[name], reference[rows].astype(np.uint8), candidate[rows], mask, index=rows
            )
    return found


def numbers(found):
    """What all states come to."""
    values = {}
    for name, metric in metrics().items():
        values |= metric.compute(found[name])
    return values


def main():
    out, port, process, processes = sys.argv[1], *map(int, sys.argv[2:])
    import jax

    if processes > 1:
        jax.distributed.initialize(f"localhost:{port}", processes, process)
    from vitok_jax.evaluation import processes as gathering

    assert jax.local_device_count() == 1
    own = states(slice(process, None, processes), 7)
    merged = {
        name: functools.reduce(metric.merge, gathering.gather(dict(own[name])))
        for name, metric in metrics().items()
    }
    flat = {f"{name}|{key}": value for name, s in merged.items() for key, value in s.items()}
    np.savez(out, **flat)


if __name__ == "__main__":
    main()
