"""The conversation driven by hand: the rules without any client."""

from __future__ import annotations

import numpy as np
import pytest

from nimbusguard.client.exchange import ClientSettings, Conversation, Pause, Send
from nimbusguard.client.outcomes import Reply


def conversation() -> Conversation:
    return Conversation(ClientSettings(), clock=lambda: 0.0, rng=np.random.default_rng(3))


def test_a_conversation_is_a_sequence_of_steps() -> None:
    """Send, pause, send, value: nothing in between touches a network or a clock of its own."""
    talk = conversation().ready()

    first = next(talk)
    assert isinstance(first, Send)
    with pytest.raises(StopIteration) as done:
        talk.send(Reply(status=200, headers={}, body=b'{"ready": true}'))

    assert done.value.value is True


def test_a_pause_stands_between_two_attempts() -> None:
    """The same question is sent again, with the same headers."""
    talk = conversation().metadata()

    first = next(talk)
    pause = talk.send(Reply(status=503, headers={"retry-after": "1"}, body=b""))
    second = talk.send(None)

    assert isinstance(pause, Pause)
    assert pause.seconds >= 1.0
    assert second == first


def test_a_send_without_an_outcome_is_a_mistake_of_the_driver() -> None:
    """It is refused at once, rather than read as an answer."""
    talk = conversation().metadata()
    next(talk)

    with pytest.raises(TypeError, match="must be answered"):
        talk.send(None)
