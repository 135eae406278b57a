"""The OpenAPI description of a server, made from the model's own tables: `/openapi.json`."""

from __future__ import annotations

from typing import Any

from nimbusguard import __version__
from serving.calls import ModelService

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}
_ERROR_TEXTS = {
    "400": "The request is not what was expected; the message names instance and field.",
    "404": "No such model, version or path.",
    "405": "Another method is expected; see Allow.",
    "413": "The body is larger than the limit.",
    "500": "The network returned NaN or infinity.",
    "503": "Not now; see Retry-After.",
    "504": "The predictor was slower than the deadline.",
}
_VERSION_PARAMETER = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "The loaded version; any other is answered with 404.",
}
_TENSOR_PARAMETERS = {"type": "object", "additionalProperties": True}


def openapi_document(service: ModelService[Any, Any]) -> dict[str, Any]:
    """The description of one server."""
    name = service.name
    base_v2 = f"/v2/models/{name}"
    versioned = base_v2 + "/versions/{version}"
    paths: dict[str, Any] = {
        "/": {"get": _get("Liveness", {"type": "object"})},
        "/metrics": {"get": _metrics()},
        "/v1/models": {"get": _get("Models", {"type": "object"})},
        f"/v1/models/{name}": {"get": _get("Readiness of the model", {"type": "object"}, "503")},
        f"/v1/models/{name}:predict": {"post": _predict(service)},
        "/v2": {"get": _get("Server metadata", {"type": "object"})},
        "/v2/health/live": {"get": _get("Liveness", {"type": "object"})},
        "/v2/health/ready": {"get": _get("Readiness", {"type": "object"}, "503")},
        "/v2/models": {"get": _get("Models", {"type": "object"})},
        base_v2: {"get": _get("Model metadata", {"type": "object"})},
        base_v2 + "/ready": {"get": _get("Readiness of the model", {"type": "object"}, "503")},
        base_v2 + "/infer": {"post": _infer(service)},
    }
    for suffix in ("", "/ready", "/infer"):
        item = {method: dict(operation) for method, operation in paths[base_v2 + suffix].items()}
        for operation in item.values():
            operation["responses"] = {**operation["responses"], **_errors("404")}
        paths[versioned + suffix] = {**item, "parameters": [_VERSION_PARAMETER]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"NimbusGuard {service.component}",
            "version": __version__,
            "description": "KServe V1 and V2 (Open Inference Protocol) over REST.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
    }


def _get(summary: str, schema: dict[str, Any], *errors: str) -> dict[str, Any]:
    answer = {"description": summary, "content": {"application/json": {"schema": schema}}}
    return {"summary": summary, "responses": {"200": answer, **_errors(*errors)}}


def _metrics() -> dict[str, Any]:
    answer = {
        "description": "Metrics",
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        },
    }
    return {"summary": "Prometheus metrics", "responses": {"200": answer}}


def _errors(*codes: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ERROR}}
    return {code: {"description": _ERROR_TEXTS[code], "content": content} for code in codes}


def _predict(service: ModelService[Any, Any]) -> dict[str, Any]:
    request = {
        "type": "object",
        "required": ["instances"],
        "additionalProperties": False,
        "properties": {"instances": {"type": "array", "minItems": 1, "items": service.v1_instance}},
    }
    answer = {
        "type": "object",
        "required": ["predictions"],
        "properties": {"predictions": {"type": "array", "items": service.v1_prediction}},
    }
    return _post("V1 prediction", request, answer)


def _infer(service: ModelService[Any, Any]) -> dict[str, Any]:
    tensors = [
        {
            "type": "object",
            "required": ["name", "shape", "datatype", "data"],
            "properties": {
                "name": {"const": spec.name},
                "shape": {
                    "type": "array",
                    "minItems": len(spec.shape),
                    "maxItems": len(spec.shape),
                    "items": {"type": "integer", "minimum": 1},
                },
                "datatype": {"enum": list(spec.datatypes)},
                "data": {"type": "array"},
                "parameters": _TENSOR_PARAMETERS,
            },
        }
        for spec in service.inputs
    ]
    request = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "minItems": 1, "items": {"oneOf": tensors}},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"enum": [spec.name for spec in service.outputs]},
                        "parameters": {
                            "type": "object",
                            "properties": {"binary_data": {"type": "boolean"}},
                        },
                    },
                },
            },
            "parameters": {
                "type": "object",
                "properties": {"binary_data_output": {"type": "boolean"}},
            },
        },
    }
    answer = {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "id": {"type": "string"},
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": {"type": "object"}},
        },
    }
    operation = _post("V2 inference", request, answer)
    octets = {"schema": {"type": "string", "format": "binary"}}
    operation["responses"]["200"]["content"]["application/octet-stream"] = octets
    return operation


def _post(summary: str, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {"schema": request}}}
    content = {"application/json": {"schema": answer}}
    success = {"description": summary, "content": content}
    errors = _errors("400", "413", "500", "503", "504")
    return {"summary": summary, "requestBody": body, "responses": {"200": success, **errors}}
