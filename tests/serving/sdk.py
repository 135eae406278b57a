"""A service under the SDK's own data plane, and V2 requests in the SDK's form."""

from __future__ import annotations

from typing import Any

import numpy as np
from kserve import InferInput, InferRequest, ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.infer_type import RequestedOutput

from serving.model import ServedModel
from tests.serving.in_process import MODEL

REQUEST_ID = "7"


def data_plane(service: Any) -> DataPlane:
    """One whose registry holds a loaded model of the service."""
    registry = ModelRepository()
    model = ServedModel(service)
    model.load()
    registry.update(model)
    return DataPlane(model_registry=registry)


def request_of(name: str, rows: np.ndarray, datatype: str, *outputs: str) -> InferRequest:
    """Of one tensor; with the outputs that are asked for, or none in particular."""
    tensor = InferInput(name=name, shape=list(rows.shape), datatype=datatype)
    tensor.set_data_from_numpy(rows, binary_data=False)
    return InferRequest(
        model_name=MODEL,
        infer_inputs=[tensor],
        request_id=REQUEST_ID,
        request_outputs=[RequestedOutput(output) for output in outputs] or None,
    )
