"""The right answers, from torch called directly, and the check that comes before any timing."""

from __future__ import annotations

import http.client
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from bench.payloads import JSON_LENGTH_HEADER, Answer, Body, Form, parse_answer
from nimbusguard.contract.normalization import normalize

TOLERANCE: Final = 1e-4
"""Largest allowed difference of a Q-value: a batch of another size rounds float32 differently."""


class WrongAnswerError(Exception):
    """A server answered, but not what torch says; its speed is of no interest then."""


def direct_q_values(model_file: Path, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Q-values (B, A) of raw features (B, F), by the contract and one forward in this process."""
    with warnings.catch_warnings():
        # torch advises against TorchScript since 2.13; it is what all the systems serve.
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        model = torch.jit.load(str(model_file)).eval()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        q_values = model(torch.from_numpy(normalize(raw).state))
    return q_values.numpy().astype(np.float64)  # type: ignore[no-any-return]


def check_answer(answer: Answer, q_values: NDArray[np.float64], source: str) -> None:
    """Compare an answer with the right one.

    Raises:
        WrongAnswerError: Another shape, another Q-value, or an action that is not the best one.
    """
    if answer.q_values.shape != q_values.shape:
        msg = f"{source}: expected Q-values {q_values.shape}, got {answer.q_values.shape}"
        raise WrongAnswerError(msg)
    difference = float(np.abs(answer.q_values - q_values).max())
    if difference > TOLERANCE:
        msg = f"{source}: Q-values differ from torch by {difference:g}, allowed is {TOLERANCE:g}"
        raise WrongAnswerError(msg)
    if answer.action is None:
        return
    chosen = np.take_along_axis(q_values, answer.action[:, None], axis=1)[:, 0]
    if bool((chosen < q_values.max(axis=1) - TOLERANCE).any()):
        msg = f"{source}: an action is not the one with the highest Q-value"
        raise WrongAnswerError(msg)


def ask(port: int, form: Form, body: Body) -> Answer:
    """Send one body on a fresh connection and read the answer.

    Raises:
        WrongAnswerError: The status is not 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", form.path, body=body.content, headers=dict(body.headers))
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            msg = (
                f"port {port}, {form.value}: expected 200, got {response.status} {content[:300]!r}"
            )
            raise WrongAnswerError(msg)
        length = response.headers.get(JSON_LENGTH_HEADER)
        return parse_answer(form, content, None if length is None else int(length))
    finally:
        connection.close()
