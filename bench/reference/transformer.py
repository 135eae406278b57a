"""The reference transformer: `preprocess` and `postprocess` around the SDK's own hop.

It does less than ours (no bounds, no mask, no check of the values, no explanation), so whatever it
costs more is the framework's.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from kserve import (
    InferInput,
    InferOutput,
    InferRequest,
    InferResponse,
    Model,
    ModelServer,
    logging,
    model_server,
)
from kserve.model import PredictorProtocol
from kserve.utils.utils import generate_uuid

from nimbusguard.contract.features import MAXIMUM, MINIMUM, NAMES


class ReferenceTransformer(Model):  # type: ignore[misc]  # the SDK ships no types
    """Raw metrics to state, Q-values to the best action."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    def preprocess(
        self, payload: dict[str, Any] | InferRequest, headers: dict[str, str]
    ) -> dict[str, Any] | InferRequest:
        """Named or ordered features, or a V2 tensor, to the request of the predictor."""
        if isinstance(payload, InferRequest):
            raw = payload.inputs[0].as_numpy()
        else:
            headers["request-type"] = "v1"
            raw = np.array(
                [
                    [instance[name] for name in NAMES] if isinstance(instance, dict) else instance
                    for instance in payload["instances"]
                ]
            )
        state = (np.clip(raw, MINIMUM, MAXIMUM) - MINIMUM) / (MAXIMUM - MINIMUM)  # (B, F)
        if self.predictor_config.protocol == PredictorProtocol.REST_V1.value:
            return {"instances": state.tolist()}
        state = state.astype(np.float32)
        tensor = InferInput(name="state", datatype="FP32", shape=list(state.shape), data=state)
        return InferRequest(model_name=self.name, infer_inputs=[tensor])

    def postprocess(
        self,
        result: dict[str, Any] | InferResponse,
        headers: dict[str, str],
    ) -> dict[str, Any] | InferResponse:
        """Q-values to the index of the best action, in the protocol of the caller."""
        if isinstance(result, InferResponse):
            q_values = result.outputs[0].as_numpy()  # (B, A)
        else:
            q_values = np.array(result["predictions"], dtype=np.float32)
        action = q_values.argmax(axis=1)  # (B,)
        if headers.get("request-type") == "v1":
            return {
                "predictions": [
                    {"action_index": index, "q_values": row}
                    for index, row in zip(action.tolist(), q_values.tolist(), strict=True)
                ]
            }
        outputs = [
            InferOutput(name="action_index", datatype="INT64", shape=list(action.shape)),
            InferOutput(name="q_values", datatype="FP32", shape=list(q_values.shape)),
        ]
        for output, values in zip(outputs, (action, q_values), strict=True):
            output.set_data_from_numpy(values, binary_data=True)
        return InferResponse(
            model_name=self.name,
            infer_outputs=outputs,
            response_id=generate_uuid(),
            use_binary_outputs=True,
        )


parser = argparse.ArgumentParser(parents=[model_server.parser])

if __name__ == "__main__":
    args, _ = parser.parse_known_args()
    if args.configure_logging:
        logging.configure_logging(args.log_config_file)
    ModelServer().start([ReferenceTransformer(args.model_name)])
