"""The settings that users know by name, read from the environment once, at start.

A setting of one part alone belongs to that part's own `settings.py`. Here stand those that several
parts share and that deployments already set; `.env.example` is made from this table, and a test
keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nimbusguard import environment
from nimbusguard.client.endpoint import DEFAULT_ENDPOINT, Endpoint
from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import STATE_DIM
from nimbusguard.environment import Key, positive, read_keys, truth, web_address, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One value a key; the field's name is the key in lower case."""

    kserve_endpoint: str = DEFAULT_ENDPOINT
    fallback_to_local: bool = True
    model_validation_interval: float = 300.0
    prometheus_endpoint: str | None = None
    dqn_state_dim: int = STATE_DIM
    dqn_action_dim: int = ACTION_DIM
    training_epochs: int = 100
    data_collection_hours: float = 24.0
    katib_max_trial_count: int = 20
    katib_parallel_trial_count: int = 3
    learning_rate_min: float = 1e-5
    learning_rate_max: float = 1e-2

    def __post_init__(self) -> None:
        _require_equal("DQN_STATE_DIM", self.dqn_state_dim, STATE_DIM)
        _require_equal("DQN_ACTION_DIM", self.dqn_action_dim, ACTION_DIM)
        _require_order(
            ("KATIB_PARALLEL_TRIAL_COUNT", self.katib_parallel_trial_count),
            ("KATIB_MAX_TRIAL_COUNT", self.katib_max_trial_count),
        )
        _require_order(
            ("LEARNING_RATE_MIN", self.learning_rate_min),
            ("LEARNING_RATE_MAX", self.learning_rate_max),
        )


def from_environ(environ: Mapping[str, str]) -> Settings:
    """Read and check every key once; an empty value counts as unset.

    Raises:
        InvalidSetting: A value breaks its rule; the message names key, rule and value.
    """
    return Settings(**read_keys(environ, KEYS))


_RESERVED: Final = "Reserved: accepted and checked, used by no code yet"


def example() -> str:
    """The blocks of `.env.example` with these keys, by who reads them."""
    defaults = Settings()
    groups = sorted(dict.fromkeys(key.readers for key in KEYS), key=lambda names: not names)
    return "\n\n".join(
        environment.example(
            f"Read by {', '.join(readers)}" if readers else _RESERVED,
            [key for key in KEYS if key.readers == readers],
            defaults,
        )
        for readers in groups
    )


def _predict_address(text: str) -> str:
    try:
        return Endpoint.parse(text).predict_url
    except InvalidRequest as exc:
        rule = "a URL http(s)://host[:port]/v1/models/<model>:predict"
        raise ValueError(rule) from exc


def _require_equal(name: str, value: int, contract: int) -> None:
    if value != contract:
        message = f"{name}: expected {contract}, which the contract fixes, got {value}"
        raise InvalidRequest(message)


def _require_order(low: tuple[str, float], high: tuple[str, float]) -> None:
    if low[1] > high[1]:
        message = f"{low[0]}: expected at most {high[0]} ({high[1]:g}), got {low[1]:g}"
        raise InvalidRequest(message)


KEYS: Final[tuple[Key, ...]] = (
    Key(
        "KSERVE_ENDPOINT",
        _predict_address,
        ("nimbusguard.client", "autoscaler"),
        "The transformer's predict URL, or its address without a path.",
    ),
    Key(
        "DQN_STATE_DIM",
        whole(),
        ("nimbusguard.settings",),
        "Features of the state. The contract fixes it; another number stops the start.",
    ),
    Key(
        "DQN_ACTION_DIM",
        whole(),
        ("nimbusguard.settings",),
        "Actions. The contract fixes it; another number stops the start.",
    ),
    Key(
        "FALLBACK_TO_LOCAL",
        truth,
        ("autoscaler",),
        "Decide with a local copy of the model while KServe does not answer.",
    ),
    Key(
        "MODEL_VALIDATION_INTERVAL",
        positive,
        ("autoscaler",),
        "Seconds between two checks of the served model against the expected one.",
    ),
    Key(
        "PROMETHEUS_ENDPOINT",
        web_address,
        ("transformer", "autoscaler"),
        "Where metrics are looked up; empty looks none up.",
    ),
    Key("TRAINING_EPOCHS", whole(), (), "Epochs of a training run."),
    Key("DATA_COLLECTION_HOURS", positive, (), "Hours of experience that a training run reads."),
    Key("KATIB_MAX_TRIAL_COUNT", whole(), (), "Trials of a hyperparameter search."),
    Key("KATIB_PARALLEL_TRIAL_COUNT", whole(), (), "Trials that run at the same time."),
    Key("LEARNING_RATE_MIN", positive, (), "Smallest learning rate that the search tries."),
    Key("LEARNING_RATE_MAX", positive, (), "Largest learning rate that the search tries."),
)
