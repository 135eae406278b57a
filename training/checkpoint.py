"""Where training stands, on disk: arrays and JSON, written aside and renamed. Never served.

A checkpoint is taken between two epochs and holds everything the next epoch depends on: both
networks, the optimizer, the multiplier and the replay buffer. Nothing is pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from nimbusguard.contract.errors import ArtifactCorrupted
from training.dqn import Learner
from training.dueling_network import DuelingNetwork

_MOMENTS: Final = ("step", "exp_avg", "exp_avg_sq")
Arrays = dict[str, NDArray[np.generic]]


class Kept(Protocol):
    """A buffer that a checkpoint can hold."""

    def arrays(self) -> Arrays:
        """Everything held."""
        ...

    def restore(self, arrays: Arrays) -> None:
        """Take back what `arrays` gave."""
        ...


def save(path: Path, learner: Learner, buffer: Kept, *, next_epoch: int) -> None:
    """Write a checkpoint over the one that is there."""
    arrays: Arrays = {}
    for part, network in (("online", learner.online), ("target", learner.target)):
        arrays.update(network_arrays(network, prefix=f"{part}."))
    for index, moments in learner.optimizer.state_dict()["state"].items():
        for name in _MOMENTS:
            arrays[f"adam.{index}.{name}"] = moments[name].numpy()
    arrays.update({f"buffer.{name}": value for name, value in buffer.arrays().items()})
    arrays["multiplier"] = np.array(learner.multiplier)
    arrays["next_epoch"] = np.array(next_epoch)
    _write(path, arrays)


def restore(path: Path, learner: Learner, buffer: Kept) -> int:
    """Put a learner and its buffer back to where they were; returns the next epoch.

    Raises:
        ArtifactCorrupted: The file is not a checkpoint of such a learner.
    """
    arrays = _read(path)
    try:
        for part, network in (("online", learner.online), ("target", learner.target)):
            load_network(network, arrays, prefix=f"{part}.")
        count = len(list(learner.online.parameters()))
        state = {
            index: {name: torch.from_numpy(arrays[f"adam.{index}.{name}"]) for name in _MOMENTS}
            for index in range(count)
            if f"adam.{index}.step" in arrays
        }
        learner.optimizer.load_state_dict({**learner.optimizer.state_dict(), "state": state})
        prefix = "buffer."
        buffer.restore(
            {name[len(prefix) :]: arrays[name] for name in arrays if name.startswith(prefix)}
        )
        learner.multiplier = float(np.asarray(arrays["multiplier"], dtype=np.float64))
        return int(np.asarray(arrays["next_epoch"], dtype=np.int64))
    except (KeyError, ValueError, RuntimeError) as error:
        message = f"{path}: expected a checkpoint of these settings, got {error}"
        raise ArtifactCorrupted(message) from error


def save_network(path: Path, network: DuelingNetwork, **figures: Any) -> None:
    """Write a network alone, with what it needs to be built again."""
    described = {
        "hidden": list(network.hidden),
        "derived": network.derived,
        "dueling": network.dueling,
        "conditions": network.conditions,
        **figures,
    }
    arrays = network_arrays(network)
    arrays["description"] = np.frombuffer(orjson.dumps(described), dtype=np.uint8)
    _write(path, arrays)


def read_network(path: Path) -> tuple[DuelingNetwork, dict[str, Any]]:
    """A network that `save_network` wrote, and the figures beside it."""
    arrays = _read(path)
    described: dict[str, Any] = orjson.loads(arrays.pop("description").tobytes())
    network = DuelingNetwork(
        hidden=described["hidden"],
        derived=described["derived"],
        dueling=described["dueling"],
        conditions=described["conditions"],
    )
    load_network(network, arrays)
    return network.eval(), described


def network_arrays(network: DuelingNetwork, *, prefix: str = "") -> Arrays:
    """The weights as arrays."""
    return {f"{prefix}{name}": value.numpy() for name, value in network.state_dict().items()}


def load_network(network: DuelingNetwork, arrays: Arrays, *, prefix: str = "") -> None:
    """Put arrays into the weights."""
    names = network.state_dict().keys()
    network.load_state_dict({name: torch.from_numpy(arrays[f"{prefix}{name}"]) for name in names})


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    with aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    aside.replace(path)


def _read(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        message = f"{path}: expected a checkpoint, got {error}"
        raise ArtifactCorrupted(message) from error
