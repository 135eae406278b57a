"""The error tree. Everything that a caller can be told about is one of these.

::

    NimbusGuardError
    ├── InvalidRequest            the caller's fault; nothing will change by retrying
    │   └── RequestTooLarge       more bytes than the limit
    ├── NotFound                  no such model, version or path
    │   └── VersionNotFound       the store has no such version
    ├── Unavailable               try again later; carries `retry_after_s`
    │   ├── PredictorUnavailable  the hop to the predictor failed
    │   ├── MetricsUnavailable    Prometheus did not answer
    │   ├── Overloaded            the bounded queue is full
    │   └── IncompatibleModel     the fingerprint is not the one this code was built for
    ├── DeadlineExceeded          the answer would have come too late
    ├── NonFiniteOutput           the network returned NaN or infinity
    └── ArtifactCorrupted         a model version is not what its metadata says

A message says what was expected, what came, and what to do. HTTP and gRPC codes are not known here:
`serving.status` maps the tree to both.
"""

from __future__ import annotations


class NimbusGuardError(Exception):
    """Base of every error of this project; `str(error)` is fit for a caller to read."""


class InvalidRequest(NimbusGuardError):  # noqa: N818 - a name of the contract, read as a fact
    """The request cannot be answered as it stands."""


class RequestTooLarge(InvalidRequest):
    """The body is larger than the limit."""


class NotFound(NimbusGuardError):  # noqa: N818 - as above
    """No such model, version or path."""


class VersionNotFound(NotFound):
    """The store holds no such version."""


class Unavailable(NimbusGuardError):  # noqa: N818 - as above
    """The same request may succeed later."""

    retry_after_s: int = 1
    """Whole seconds after which a retry makes sense; sent as `Retry-After`."""


class PredictorUnavailable(Unavailable):
    """The predictor could not be reached, or broke off."""


class MetricsUnavailable(Unavailable):
    """Prometheus could not be reached, or refused the query."""


class Overloaded(Unavailable):
    """More requests wait than the queue may hold."""


class IncompatibleModel(Unavailable):
    """The model was trained with another feature table than the one this code serves."""


class DeadlineExceeded(NimbusGuardError):  # noqa: N818 - as above
    """The predictor was slower than the deadline."""


class NonFiniteOutput(NimbusGuardError):  # noqa: N818 - as above
    """The network returned NaN or infinity for a valid state."""


class ArtifactCorrupted(NimbusGuardError):  # noqa: N818 - as above
    """A file of a model version is missing, truncated, swapped or not what its metadata says."""
