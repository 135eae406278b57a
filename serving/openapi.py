"""The OpenAPI description of a server, made from the model's own tables: `/openapi.json`."""

from __future__ import annotations

from typing import Any, Final

from nimbusguard import __version__
from nimbusguard.contract.tensors import TensorSpec
from serving.calls import ModelService

_JSON: Final = "application/json"
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {"error": {"type": "string"}},
}
_ERROR_TEXTS: Final = {
    "400": "The request is not what was expected; the message names instance and field.",
    "404": "No such model, version or path.",
    "413": "The body is larger than the limit.",
    "500": "The network returned NaN or infinity.",
    "503": "Not now; see Retry-After.",
    "504": "The predictor was slower than the deadline.",
}
_REQUEST_ID: Final = {
    "x-request-id": {
        "description": "The caller's, or one that was made for it.",
        "required": True,
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER: Final = {
    "retry-after": {
        "description": "Seconds after which a retry makes sense.",
        "required": True,
        "schema": {"type": "integer"},
    }
}
_VERSION_PARAMETER: Final = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "The loaded version; any other is answered with 404.",
}
_STRINGS: Final = {"type": "array", "items": {"type": "string"}}
_MODELS: Final = {
    "type": "object",
    "required": ["models"],
    "properties": {"models": _STRINGS},
}
_READY: Final = {
    "type": "object",
    "required": ["name", "ready"],
    "properties": {"name": {"type": "string"}, "ready": {"const": True}},
}
_SERVER: Final = {
    "type": "object",
    "required": ["name", "version", "extensions"],
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "extensions": _STRINGS,
    },
}
_TENSORS: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
        },
    },
}
_MODEL: Final = {
    "type": "object",
    "required": ["name", "versions", "platform", "inputs", "outputs"],
    "properties": {
        "name": {"type": "string"},
        "versions": _STRINGS,
        "platform": {"type": "string"},
        "inputs": _TENSORS,
        "outputs": _TENSORS,
    },
}


def openapi_document(service: ModelService[Any, Any]) -> dict[str, Any]:
    """The description of one server."""
    name = service.name
    base_v2 = f"/v2/models/{name}"
    versioned = base_v2 + "/versions/{version}"
    paths: dict[str, Any] = {
        "/": {"get": _get("Liveness", _flag("status", "alive"))},
        "/metrics": {"get": _metrics()},
        "/openapi.json": {"get": _get("This description", {"type": "object"})},
        "/v1/models": {"get": _get("Models", _MODELS)},
        f"/v1/models/{name}": {"get": _get("Readiness of the model", _READY, "503")},
        f"/v1/models/{name}:predict": {"post": _predict(service)},
        "/v2": {"get": _get("Server metadata", _SERVER)},
        "/v2/health/live": {"get": _get("Liveness", _flag("live", value=True))},
        "/v2/health/ready": {"get": _get("Readiness", _flag("ready", value=True), "503")},
        "/v2/models": {"get": _get("Models", _MODELS)},
        base_v2: {"get": _get("Model metadata", _MODEL)},
        base_v2 + "/ready": {"get": _get("Readiness of the model", _READY, "503")},
        base_v2 + "/infer": {"post": _infer(service)},
    }
    if service.explanation is not None:
        paths[f"/v1/models/{name}:explain"] = {"post": _explain(service.explanation)}
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


def _flag(key: str, value: object) -> dict[str, Any]:
    return {"type": "object", "required": [key], "properties": {key: {"const": value}}}


def _get(summary: str, schema: dict[str, Any], *errors: str) -> dict[str, Any]:
    answer = _answer(summary, {_JSON: {"schema": schema}})
    return {"summary": summary, "responses": {"200": answer, **_errors(*errors)}}


def _metrics() -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    content = {"text/plain": text, "application/openmetrics-text": text}
    return {"summary": "Prometheus metrics", "responses": {"200": _answer("Metrics", content)}}


def _answer(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "headers": _REQUEST_ID, "content": content}


def _errors(*codes: str) -> dict[str, Any]:
    answers = {code: _answer(_ERROR_TEXTS[code], {_JSON: {"schema": _ERROR}}) for code in codes}
    if "503" in answers:
        answers["503"]["headers"] = {**_REQUEST_ID, **_RETRY_AFTER}
    return answers


def _predict(service: ModelService[Any, Any]) -> dict[str, Any]:
    return _v1("V1 prediction", service, "predictions")


def _explain(service: ModelService[Any, Any]) -> dict[str, Any]:
    operation = _v1("V1 explanation", service, "explanations")
    operation["responses"] |= _errors("404")
    return operation


def _v1(summary: str, service: ModelService[Any, Any], rows: str) -> dict[str, Any]:
    instances = {
        "type": "object",
        "required": ["instances"],
        "additionalProperties": False,
        "properties": {"instances": {"type": "array", "minItems": 1, "items": service.v1_instance}},
    }
    others = service.v1_other_bodies
    request = {"anyOf": [instances, *others]} if others else instances
    answer = {
        "type": "object",
        "required": [rows, *service.v1_beside],
        "properties": {
            rows: {"type": "array", "items": service.v1_prediction},
            **service.v1_beside,
        },
    }
    example = {"instances": [service.v1_example]}
    return _post(summary, {"schema": request, "example": example}, answer)


def _infer(service: ModelService[Any, Any]) -> dict[str, Any]:
    request = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"]},
            "inputs": {
                "type": "array",
                "minItems": 1,
                "items": {"oneOf": [_input(spec) for spec in service.inputs]},
            },
            "outputs": {"type": ["array", "null"], "items": _wanted(service)},
            "parameters": _switch("binary_data_output"),
        },
    }
    answer = {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "id": {"type": "string"},
            "model_name": {"const": service.name},
            "model_version": {"type": "string"},
            "parameters": {"type": "object", "additionalProperties": {"type": "string"}},
            "outputs": _TENSORS,
        },
    }
    example = {"id": "1", "inputs": list(service.v2_example)}
    operation = _post("V2 inference", {"schema": request, "example": example}, answer)
    octets = {"schema": {"type": "string", "format": "binary"}}
    operation["responses"]["200"]["content"]["application/octet-stream"] = octets
    return operation


def _input(spec: TensorSpec) -> dict[str, Any]:
    sizes = [
        {"type": "integer", "minimum": 1} if size < 0 else {"const": size} for size in spec.shape
    ]
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": spec.name},
            "shape": {
                "type": "array",
                "prefixItems": sizes,
                "minItems": len(sizes),
                "maxItems": len(sizes),
            },
            "datatype": {"enum": list(spec.datatypes)},
            "data": {"type": "array"},
            "parameters": {"type": ["object", "null"]},
        },
    }


def _wanted(service: ModelService[Any, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"enum": _output_names(service)},
            "parameters": _switch("binary_data"),
        },
    }


def _output_names(service: ModelService[Any, Any]) -> list[str]:
    """Those of a plain answer, then those that only an explanation has."""
    explained = service.explanation.outputs if service.explanation is not None else ()
    return list(dict.fromkeys(spec.name for spec in (*service.outputs, *explained)))


def _switch(key: str) -> dict[str, Any]:
    return {"type": ["object", "null"], "properties": {key: {"type": "boolean"}}}


def _post(summary: str, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    success = _answer(summary, {_JSON: {"schema": answer}})
    errors = _errors("400", "413", "500", "503", "504")
    body = {"required": True, "content": {_JSON: request}}
    return {"summary": summary, "requestBody": body, "responses": {"200": success, **errors}}
