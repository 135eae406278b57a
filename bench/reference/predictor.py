"""The reference predictor: a `kserve.Model` with `load` and `predict`, as the samples have it.

Nothing is left out: the SDK decodes and encodes, and `predict` runs one forward for one request on
the event loop.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from kserve import InferRequest, InferResponse, Model, ModelServer, logging, model_server
from kserve.utils.utils import get_predict_input, get_predict_response


class ReferencePredictor(Model):  # type: ignore[misc]  # the SDK ships no types
    """State (B, 11) to Q-values (B, 5)."""

    def __init__(self, name: str, model_file: str) -> None:
        super().__init__(name)
        self.model_file = model_file
        self.load()

    def load(self) -> bool:
        """Read the TorchScript network."""
        self.model = torch.jit.load(self.model_file)  # type: ignore[no-untyped-call]
        self.model.eval()
        self.ready = True
        return bool(self.ready)

    def predict(
        self,
        payload: dict[str, Any] | InferRequest,
        headers: dict[str, str] | None = None,  # noqa: ARG002 - the SDK passes it
    ) -> dict[str, Any] | InferResponse:
        """One forward for one request."""
        state = torch.Tensor(get_predict_input(payload))  # (B, F)
        with torch.no_grad():
            q_values = self.model(state).numpy()  # (B, A)
        return get_predict_response(payload, q_values, self.name)


parser = argparse.ArgumentParser(parents=[model_server.parser])
parser.add_argument("--model_file", required=True)

if __name__ == "__main__":
    args, _ = parser.parse_known_args()
    if args.configure_logging:
        logging.configure_logging(args.log_config_file)
    ModelServer().start([ReferencePredictor(args.model_name, args.model_file)])
