r"""Plans a run for a TPU pod that nobody has paid for yet.

python -m vitok_jax.plan --topology=v5e:4x4 \
      --config=configs/tokenizer/imagenet.py:variant=S-B/16,size=256 --config.data.batch_size=1024

Compiles the very update that trains, on this machine's CPU; see `docs/pods.md`.
"""

import json
import logging

from absl import flags
from ml_collections import config_flags

from vitok_jax import cli
from vitok_jax.planning import pods
from vitok_jax.telemetry import log

_CONFIG = config_flags.DEFINE_config_file("config", None, "Settings of any trainer.")
_TOPOLOGY = flags.DEFINE_string("topology", None, "Chips, such as v5e:4x4 or v5p:8x8x8.")
_SLICES = flags.DEFINE_integer("slices", 1, "Number of such slices.", lower_bound=1)
_PRICE = flags.DEFINE_float("price", 0.0, "Of a chip for an hour.", lower_bound=0.0)
_SEARCH = flags.DEFINE_bool("search", False, "Try meshes, pictures per chip and recomputation.")
_SUGGEST = flags.DEFINE_bool("suggest", False, "Say where to start; compile nothing.")
_JSON = flags.DEFINE_bool("json", False, "One JSON object on the last line.")
_SAVE = flags.DEFINE_string("save-executable", None, "Where to write the compiled step.")


def main() -> None:
    """Plans, and prints what was found; a run that does not fit is an answer, not an error."""
    cli.require("config", "topology")
    pods.prepare_environment()
    from vitok_jax.planning import executable, page, plan, presets, search, subjects

    subject = subjects.of(_CONFIG.value)
    pod = pods.describe(str(_TOPOLOGY.value), _SLICES.value)
    for mode in ("search", "suggest"):
        if flags.FLAGS[mode].value:
            cli.refuse(f"--{mode}", "json", "price", "save-executable")
    if _SUGGEST.value:
        suggested = presets.suggest(subject, pod)
        print(" ".join(f"--config.{key}={value}" for key, value in suggested.items()))
        return
    if _SEARCH.value:
        found = search.search(subject, pod, lambda one: print(search.line(one), flush=True))
        print("best:", search.line(found[0]), sep="\n")
        return
    log.show(logging.INFO)
    made = plan.make(subject, pod)
    if _SAVE.value:
        executable.save(_SAVE.value, made)
    print(json.dumps(made.to_json()) if _JSON.value else page.text(made, price=_PRICE.value))


if __name__ == "__main__":
    cli.run(main)
