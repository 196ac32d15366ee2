"""One of two processes of a job that evaluates in the training loop; run by a test.

python two_processes.py PORT PROCESS CONFIG_JSON
"""

import dataclasses
import json
import sys


def main() -> None:
    port, process, text = sys.argv[1:]
    import jax

    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(process))
    from vitok_jax import config as config_lib
    from vitok_jax.evaluation import evaluator
    from vitok_jax.tasks import tokenizer
    from vitok_jax.training import program

    config = config_lib.from_config_dict(config_lib.TokenizerConfig, json.loads(text))
    state = program.build(tokenizer.TokenizerTask(config), config).fresh_state()
    for crop in ("center", "none"):
        data = dataclasses.replace(config.data, eval_crop=crop)
        (judge,) = evaluator.for_training(dataclasses.replace(config, data=data))
        print("SCALARS", json.dumps(judge.run(state, 1).scalars))


if __name__ == "__main__":
    main()
