"""From settings to a process, a sampler and guidance, checked."""

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.diffusion import ddpm, flow, guidance, process, samplers


def build_process(config: config_lib.DiffusionConfig, *, dimensions: int) -> process.Process:
    """The process that a network is trained for and sampled from.

    Args:
      config: its settings.
      dimensions: numbers in one sample, tokens x channels; the shift of `flow` depends on it.

    Returns:
      A frozen, hashable process.

    Raises:
      UsageError: a value is outside its range.
    """
    if config.process == "ddpm":
        if not 0 < config.beta_first <= config.beta_last < 1:
            raise errors.UsageError(
                f"diffusion.beta_first, diffusion.beta_last: {config.beta_first}, "
                f"{config.beta_last}; allowed: 0 < first <= last < 1"
            )
        return ddpm.Ddpm(
            steps=config.steps,
            beta_first=config.beta_first,
            beta_last=config.beta_last,
            variance=config.variance,
            bound_weight=config.bound_weight,
        )
    _require_positive("diffusion.shift_base", config.shift_base)
    _require_positive("diffusion.logit_std", config.logit_std)
    shift = 1.0
    if config.shift == "dimension":
        shift = flow.dimension_shift(dimensions, config.shift_base)
    return flow.Flow(
        times=config.times, logit_mean=config.logit_mean, logit_std=config.logit_std, shift=shift
    )


def build_sampler(config: config_lib.SamplerConfig) -> samplers.Sampler:
    """The rule of a step.

    Raises:
      UsageError: `eta` is above 1, or set for a sampler that has none.
    """
    if config.name != "ddim" and config.eta != 0:
        raise errors.UsageError(
            f"sampler.eta: {config.eta} means nothing to {config.name!r}; allowed: 0, or name=ddim"
        )
    _require_share("sampler.eta", config.eta)
    return {
        "ddim": samplers.Ddim(eta=config.eta),
        "ancestral": samplers.Ancestral(),
        "euler": samplers.Euler(),
        "heun": samplers.Heun(),
        "multistep": samplers.Multistep(),
    }[config.name]


def build_guidance(
    config: config_lib.SamplerConfig, *, class_dropout: float
) -> guidance.Guidance | None:
    """Guidance, or None when the scale is 1 and the conditional network suffices.

    Args:
      config: its settings.
      class_dropout: share of training examples whose label was dropped.

    Returns:
      The guidance.

    Raises:
      UsageError: a value is outside its range, or the network never saw an example without label.
    """
    for name in ("low", "high", "rescale"):
        _require_share(f"sampler.{name}", getattr(config, name))
    if config.low > config.high:
        raise errors.UsageError(
            f"sampler.low, sampler.high: {config.low}, {config.high}; allowed: low <= high"
        )
    if config.scale == 1:
        return None
    if class_dropout == 0:
        raise errors.UsageError(
            f"sampler.scale: {config.scale} needs a network trained with label dropout, and this "
            "one had class_dropout=0; allowed: 1"
        )
    return guidance.Guidance(
        scale=config.scale,
        low=config.low,
        high=config.high,
        rescale=config.rescale,
        channels=config.channels,
    )


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise errors.UsageError(f"{name}: {value}; allowed: more than 0")


def _require_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise errors.UsageError(f"{name}: {value}; allowed: 0 to 1")
