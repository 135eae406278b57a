"""The default model: a network fitted to the rule of the Kubernetes HPA.

It gives a first installation something safe to serve and every learned version something to beat.
It learned nothing from traffic, and its metadata says so.

    python -m training.imitate --out STORE
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from model_store.metadata import Draft, Metadata, Network
from model_store.names import ALIASES, MODEL_NAME
from model_store.store import Candidate, ModelStore, open_store
from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError
from nimbusguard.contract.fingerprint import action_table, feature_table
from training.export import OPSET, check_files, export_files, weights_digest
from training.imitation import (
    CPU_TARGET,
    Agreement,
    Sampling,
    agreement,
    sample,
    target_q_values,
)
from training.network import NetworkConfig, QNetwork
from training.provenance import git_commit, library_versions

logger = logging.getLogger(__name__)

STATEMENT: Final = (
    f"This network imitates the Kubernetes HPA rule on CPU at {CPU_TARGET:.0%}. "
    "It was fitted to the rule's own answers on random states and learned nothing from traffic. "
    "A Q-value is minus the number of replicas by which its action misses the rule's."
)
FORCE_REASON: Final = (
    "The gate asks whether a network beats the HPA; this one imitates it, so there is nothing to "
    "judge. It is the default until a learned version passes the gate."
)
EVALUATIONS: Final[dict[str, tuple[Sampling, str]]] = {
    "uniform": (
        Sampling(),
        "cpu_utilization uniform in [0, 1], pod_count uniform in 1..50, the other nine features "
        "independent, uniform within their bounds with a quarter of them on a bound",
    ),
    "few_pods": (Sampling(max_pods=10), "as uniform, with pod_count uniform in 1..10"),
    "near_boundary": (
        Sampling(near_boundary=1.0, distance=0.02),
        "as uniform, with cpu_utilization within 0.02 of a point where the rule changes its mind",
    ),
    "at_boundary": (
        Sampling(near_boundary=1.0, distance=0.005),
        "as uniform, with cpu_utilization within 0.005 of such a point",
    ),
}
"""Distributions of unseen states: name to sampling and its description."""


MIN_STEPS: Final = 100
"""The warm-up of the schedule takes a twentieth of the steps and needs more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImitationConfig:
    """Everything that decides the weights.

    Raises:
        InvalidRequest: The seed is negative or there are too few steps.
    """

    seed: int = 1
    hidden: tuple[int, ...] = (128, 128)
    steps: int = 24_000
    """Updates; about 80 s on one core."""
    batch_size: int = 1024
    learning_rate: float = 1e-2
    """Peak of a one-cycle schedule; in 8,000 steps 3e-3 reached 98.4 % and 1e-2 99.7 %."""
    classification_weight: float = 0.3
    """Weight of the cross-entropy that sharpens the boundaries beside the squared error."""
    classification_scale: float = 4.0
    """Q-values times this are the logits of that cross-entropy."""
    near_boundary: float = 0.5
    distance: float = 0.05
    few_pods: float = 0.4
    evaluation_states: int = 200_000

    def __post_init__(self) -> None:
        if self.seed < 0 or self.steps < MIN_STEPS:
            message = (
                f"imitation: expected a seed of at least 0 and at least {MIN_STEPS} steps, got "
                f"seed {self.seed} and {self.steps} steps"
            )
            raise InvalidRequest(message)

    @property
    def sampling(self) -> Sampling:
        """How training states are drawn."""
        return Sampling(
            near_boundary=self.near_boundary, distance=self.distance, few_pods=self.few_pods
        )


def fit(config: ImitationConfig, report: Callable[[int, float], None]) -> QNetwork:
    """Fit a network to the rule; equal configurations give equal weights on one kind of CPU.

    Args:
        config: What decides the weights.
        report: Called with the step and the loss, ten times.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng((config.seed, 0))
    generator = torch.Generator().manual_seed(config.seed)
    network = QNetwork(NetworkConfig(hidden=config.hidden), generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.05
    )
    for step in range(1, config.steps + 1):
        batch = sample(rng, config.batch_size, config.sampling)
        q_values = network(torch.from_numpy(batch.state))  # (B, A)
        target = torch.from_numpy(target_q_values(batch.action))  # (B, A)
        action = torch.from_numpy(batch.action)  # (B,)
        squared = nn.functional.mse_loss(q_values, target)
        sharp = nn.functional.cross_entropy(q_values * config.classification_scale, action)
        loss = squared + config.classification_weight * sharp
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % max(1, config.steps // 10) == 0:
            report(step, loss.item())
    return network.eval()


def evaluate(network: QNetwork, config: ImitationConfig) -> dict[str, Agreement]:
    """Agreement with the rule on unseen states, by distribution."""
    results = {}
    for index, (name, (sampling, _)) in enumerate(EVALUATIONS.items(), start=1):
        rng = np.random.default_rng((config.seed, index))
        states, actions = sample(rng, config.evaluation_states, sampling)
        with torch.inference_mode():
            q_values = network(torch.from_numpy(states)).numpy()
        results[name] = agreement(q_values, actions)
    return results


def candidate_of(network: QNetwork, config: ImitationConfig) -> Candidate:
    """Evaluate and export a fitted network.

    Raises:
        ArtifactCorrupted: The files do not agree with the network.
    """
    files, parity = export_files(network)
    draft = Draft(
        name=MODEL_NAME,
        features=tuple(feature_table()),
        actions=tuple(action_table()),
        network=Network(
            layers=network.config.layers,
            weights=weights_digest(network),
            extra={"activation": "relu", "onnx_opset": OPSET},
        ),
        training=_training(config),
        evaluation={
            "statement": STATEMENT,
            "agreement_with_hpa": {
                name: {"distribution": EVALUATIONS[name][1], **result.to_json()}
                for name, result in evaluate(network, config).items()
            },
            "parity": parity.to_json(),
        },
    )
    return Candidate(draft=draft, files=files)


def publish(store: ModelStore, candidate: Candidate, *, now: datetime) -> Metadata:
    """Publish without a gate, and say why."""
    return store.publish(candidate, check_files, now=now, force_reason=FORCE_REASON)


def _training(config: ImitationConfig) -> dict[str, Any]:
    return {
        "algorithm": "imitation of the Kubernetes HPA rule, supervised",
        "learned_from_traffic": False,
        "seed": config.seed,
        "config": {**asdict(config), "hidden": list(config.hidden)},
        "rule": {
            "metric": "cpu_utilization",
            "target": CPU_TARGET,
            "source": "Kubernetes, Horizontal Pod Autoscaler, algorithm details",
        },
        "git_commit": git_commit(Path(__file__).parent),
        "data": "random states labelled by the rule; no recorded traffic",
        "command": f"python -m training.imitate --out STORE --seed {config.seed} "
        f"--steps {config.steps}",
        "libraries": library_versions("torch", "numpy", "onnx", "onnxscript"),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, evaluate, publish; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.imitate", description=STATEMENT)
    parser.add_argument("--out", required=True, metavar="STORE", help="path or s3:// address")
    defaults = ImitationConfig()
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--promote", choices=ALIASES, help="alias to point to the new version")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    try:
        config = ImitationConfig(seed=args.seed, steps=args.steps)
        store = open_store(args.out)
        network = fit(config, lambda step, loss: logger.info("step %d loss %.4f", step, loss))
        # The command line is where the clock is read.
        now = datetime.now(UTC)  # noqa: TID251
        metadata = publish(store, candidate_of(network, config), now=now)
        if args.promote:
            store.promote(metadata.name, args.promote, metadata.version)
    except NimbusGuardError as error:
        sys.stderr.write(f"training.imitate: {error}\n")
        return 1
    for name, result in metadata.evaluation["agreement_with_hpa"].items():
        logger.info("%s: %.2f %% of %d states", name, 100 * result["agreement"], result["states"])
    sys.stdout.write(f"{store.version_uri(metadata.name, metadata.version)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
