"""Where the transformer answers: one setting, from which every path is derived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from nimbusguard.contract.errors import InvalidRequest

DEFAULT_MODEL: Final = "nimbusguard-dqn"
DEFAULT_ENDPOINT: Final = (
    "http://nimbusguard-dqn-model.nimbusguard-serving.svc.cluster.local"
    f"/v1/models/{DEFAULT_MODEL}:predict"
)
"""The in-cluster name. It exists in Knative mode; the Standard overlay ships an alias for it."""
_PREFIX: Final = "/v1/models/"
_SUFFIX: Final = ":predict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A transformer and the model it serves."""

    base_url: str
    """Scheme, host, optional port and optional path prefix, without a slash at the end."""
    model: str = DEFAULT_MODEL

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read `KSERVE_ENDPOINT`.

        Args:
            url: The full predict URL, `http://host[:port][/prefix]/v1/models/<model>:predict`, or
                the part before `/v1`; then the model is `nimbusguard-dqn`.

        Raises:
            InvalidRequest: The URL is no http(s) URL of one of these forms.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port  # reading the port checks it
        except ValueError as exc:
            raise InvalidRequest(_refusal(url)) from exc
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise InvalidRequest(_refusal(url))
        prefix, separator, rest = parts.path.partition(_PREFIX)
        origin = f"{parts.scheme}://{parts.netloc}"
        if not separator:
            return cls(base_url=origin + parts.path.rstrip("/"))
        model = unquote(rest.removesuffix(_SUFFIX))
        if not rest.endswith(_SUFFIX) or not model or "/" in model:
            raise InvalidRequest(_refusal(url))
        return cls(base_url=origin + prefix, model=model)

    @property
    def predict_url(self) -> str:
        """V1 prediction: raw metrics in, decisions out."""
        return f"{self.base_url}{_PREFIX}{quote(self.model)}{_SUFFIX}"

    @property
    def explain_url(self) -> str:
        """V1 explanation: as a prediction, with reasons."""
        return f"{self.base_url}{_PREFIX}{quote(self.model)}:explain"

    @property
    def ready_url(self) -> str:
        """V1 readiness of the model, the predictor behind it included."""
        return f"{self.base_url}{_PREFIX}{quote(self.model)}"

    @property
    def metadata_url(self) -> str:
        """V2 metadata of the model."""
        return f"{self.base_url}/v2/models/{quote(self.model)}"


def _refusal(url: str) -> str:
    return (
        f"endpoint: expected http(s)://host[:port]/v1/models/<model>:predict, got {url!r}; "
        "set KSERVE_ENDPOINT to the transformer's predict URL"
    )
