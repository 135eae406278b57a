"""What an unmodified `tritonclient` gets, as JSON on standard output: run by `test_clients`.

A process of its own, because the protobuf files of tritonclient and of kserve define the same
symbols, so that one process can import only one of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("http")
    parser.add_argument("grpc")
    parser.add_argument("model")
    parser.add_argument("tensor")
    parser.add_argument("datatype")
    parser.add_argument("rows", type=json.loads)
    args = parser.parse_args()
    json.dump({"http": over_http(args), "grpc": over_grpc(args)}, sys.stdout)
    return 0


def over_http(args: argparse.Namespace) -> dict[str, Any]:
    client = triton_http.InferenceServerClient(args.http)
    found = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(args.model),
        "server": client.get_server_metadata()["name"],
        "model": client.get_model_metadata(args.model)["name"],
    }
    values = np.array(args.rows, dtype=triton_to_numpy(args.datatype))
    for name, binary in (("json", False), ("binary", True)):
        tensor = triton_http.InferInput(args.tensor, list(values.shape), args.datatype)
        tensor.set_data_from_numpy(values, binary_data=binary)
        wanted = [triton_http.InferRequestedOutput("q_values", binary_data=binary)]
        answer = client.infer(args.model, [tensor], outputs=wanted, request_id="7")
        found[name] = answer.as_numpy("q_values").tolist()
        found[f"{name}_id"] = answer.get_response()["id"]
        # Without outputs named, the client asks for all of them in binary.
        everything = client.infer(args.model, [tensor])
        found[f"{name}_outputs"] = sorted(
            output["name"] for output in everything.get_response()["outputs"]
        )
        if "action" in found[f"{name}_outputs"]:
            found[f"{name}_actions"] = [a.decode() for a in everything.as_numpy("action")]
    try:
        client.get_model_metadata("resnet")
    except InferenceServerException as error:
        found["error"] = error.message()
    client.close()
    return found


def over_grpc(args: argparse.Namespace) -> dict[str, Any]:
    client = triton_grpc.InferenceServerClient(args.grpc)
    metadata = client.get_model_metadata(args.model)
    values = np.array(args.rows, dtype=triton_to_numpy(args.datatype))
    tensor = triton_grpc.InferInput(args.tensor, list(values.shape), args.datatype)
    tensor.set_data_from_numpy(values)
    answer = client.infer(args.model, [tensor], request_id="7")
    found = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(args.model),
        "server": client.get_server_metadata().name,
        "model": metadata.name,
        "binary": answer.as_numpy("q_values").tolist(),
        "binary_id": answer.get_response().id,
        "binary_outputs": sorted(output.name for output in answer.get_response().outputs),
    }
    try:
        client.get_model_metadata("resnet")
    except InferenceServerException as error:
        found["error"] = error.message()
    client.close()
    return found


def triton_to_numpy(datatype: str) -> type[np.floating[Any]]:
    return np.float32 if datatype == "FP32" else np.float64


if __name__ == "__main__":
    sys.exit(main())
