"""What is inside the built images, and what is not."""

from __future__ import annotations

import json

import pytest

from tests.images.container import PODMAN, RESTRICTED, WRITABLE_TMP
from tests.images.toolchain import ROOT, VERSION, Built, inspect, run

pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]

UNLOCKED = {"nimbusguard", "setuptools"}
"""Ourselves, and what `pip freeze` leaves out of every lock file."""

LIMIT_MB = {"transformer": 350, "predictor": 1200, "autoscaler": 450, "training": 2000}

MODULE = {"training": "nimbusguard"}
"""What an image starts, where that has not the image's name."""

IMPORTS = {
    "transformer": ("transformer.__main__", "nimbusguard.telemetry.otlp"),
    "predictor": ("torch", "predictor.__main__", "nimbusguard.telemetry.otlp"),
    "autoscaler": (
        "pyarrow.parquet", "onnxruntime", "s3fs", "autoscaler.__main__",
        "nimbusguard.telemetry.otlp",
    ),
    "training": (
        "torch", "pyarrow.parquet", "pyarrow.dataset", "onnxruntime", "s3fs", "kfp", "optuna",
        "training.trial",
    ),
}  # fmt: skip
"""What each must be able to import after its libraries were made smaller."""


def python(image: Built, code: str, user: str = "10001:10001") -> str:
    """What a script prints inside the image, under all restrictions."""
    options = ("--rm", "--user", user, "--entrypoint", "/opt/nimbusguard/bin/python")
    return run(*PODMAN, *RESTRICTED, *WRITABLE_TMP, *options, image.reference, "-c", code).strip()


def distributions(image: Built) -> dict[str, str]:
    """Names of everything installed to its version."""
    code = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    return dict(json.loads(python(image, code)))


def name_of(image: Built) -> str:
    """Its name without registry and version."""
    return image.reference.rpartition("/")[2].partition(":")[0]


def test_an_image_stays_within_its_size(
    image: Built, record_property: pytest.RecordProperty
) -> None:
    """Unpacked, without the base."""
    megabytes = image.bytes_over_base / 1e6
    record_property("image_mb", round(megabytes))
    record_property("build_s", round(image.seconds, 1))
    print(f"{image.reference}: {megabytes:.0f} MB over the base, built in {image.seconds:.0f} s")  # noqa: T201

    assert megabytes <= LIMIT_MB[name_of(image)]


def test_what_an_image_needs_can_be_imported(image: Built) -> None:
    """Nothing that a library loads went with what was taken out of it."""
    code = f"import {', '.join(IMPORTS[name_of(image)])}; print('imported')"

    assert python(image, code) == "imported"


@pytest.mark.parametrize("name", ["transformer", "autoscaler"])
def test_what_learns_nothing_and_infers_nothing_holds_no_torch(
    images: dict[str, Built], name: str
) -> None:
    """Neither as a package nor as a library beside one."""
    code = (
        "import importlib.util, pathlib, sys;"
        "found = [str(p) for p in pathlib.Path(sys.prefix).rglob('*torch*')"
        " if 'site-packages/torch' in str(p) or p.suffix == '.so'];"
        "print(importlib.util.find_spec('torch'), found)"
    )

    assert python(images[name], code) == "None []"


def test_an_image_holds_neither_compiler_nor_pip_nor_cache(image: Built) -> None:
    """What could build or fetch something is of use to an intruder alone."""
    code = (
        "import importlib.util, pathlib, shutil;"
        "names = ('gcc', 'cc', 'g++', 'make', 'ld', 'pip', 'git', 'curl');"
        "tools = [name for name in names if shutil.which(name)];"
        "caches = [str(p) for p in (pathlib.Path('/root/.cache'), pathlib.Path('/tmp/.cache'),"
        " pathlib.Path('/src'), pathlib.Path('/opt/build')) if p.exists()];"
        "print(tools, importlib.util.find_spec('pip'), caches)"
    )

    assert python(image, code, user="0:0") == "[] None []"


def test_the_build_leaves_nothing_of_the_machine_behind(image: Built) -> None:
    """The configuration of pip was mounted, not copied."""
    code = "import pathlib; p = pathlib.Path('/etc/pip.conf'); print(p.exists() and p.read_text())"

    assert python(image, code) in {"False", ""}


def test_an_image_is_labelled_and_takes_arguments(image: Built) -> None:
    """KServe appends arguments to an ENTRYPOINT; a CMD would be replaced by them."""
    config = inspect(image.reference)["Config"]
    assert isinstance(config, dict)

    module = MODULE.get(name_of(image), name_of(image))
    assert config["Entrypoint"] == ["/opt/nimbusguard/bin/python", "-m", module]
    assert not config.get("Cmd")
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == f"nimbusguard-{name_of(image)}"
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_the_bill_of_materials_lists_what_is_installed(image: Built) -> None:
    """CycloneDX JSON; its components are the installed distributions, version for version."""
    bill = json.loads(python(image, "print(open('/opt/nimbusguard/sbom.cdx.json').read())"))
    installed = distributions(image)

    assert bill["bomFormat"] == "CycloneDX"
    listed = {part["name"].lower(): part["version"] for part in bill["components"]}
    assert listed == installed


def test_the_dependencies_are_the_locked_ones(image: Built) -> None:
    """Version for version as in requirements.lock; only the CPU mark of torch may be added."""
    locked = dict(
        line.lower().split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    )
    installed = distributions(image)

    different = {
        name: version
        for name, version in installed.items()
        if name not in UNLOCKED and locked.get(name) != version.partition("+")[0]
    }
    assert different == {}
