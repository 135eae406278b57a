"""An Experiment's dimensions, algorithm and early stopping as Optuna has them. Pure.

Bayesian optimization is a tree-structured Parzen estimator (Bergstra et al. 2011) here and a
Gaussian process on a cluster: both model the objective from the trials so far; they are not the
same search.
"""

from __future__ import annotations

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from nimbusguard.contract.errors import InvalidRequest
from training.katib import Experiment, Parameter


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """A dimension as Optuna has it."""
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    if parameter.kind == "int":
        return IntDistribution(
            int(parameter.low), int(parameter.high), step=int(parameter.step or 1)
        )
    return FloatDistribution(
        parameter.low, parameter.high, log=parameter.is_log, step=parameter.step
    )


def sampler_of(experiment: Experiment) -> optuna.samplers.BaseSampler:
    """What proposes the next trial."""
    text = experiment.algorithm_settings.get("random_state")
    seed = None if text is None else int(text)
    if experiment.algorithm == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if experiment.algorithm in ("bayesianoptimization", "tpe"):
        # A running trial counts as a bad one, so that parallel trials do not try the same.
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    message = f"algorithm: expected random, tpe or bayesianoptimization, got {experiment.algorithm}"
    raise InvalidRequest(message)


def pruner_of(experiment: Experiment) -> optuna.pruners.BasePruner:
    """What stops a trial that is behind."""
    if experiment.early_stopping is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=int(experiment.early_stopping["min_trials_required"]),
        n_warmup_steps=int(experiment.early_stopping["start_step"]),
    )
