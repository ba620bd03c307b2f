"""Hardware profiles: what a kind of machine decides where a model's catalogue entry is silent.

The file is `configs/hardware.yaml`; its JSON Schema (`configs/hardware.schema.json`) is generated from these
classes. It holds no facts about the machine it runs on: the worker brings those and chooses.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from batchyard.catalogue import config_error
from batchyard.entry import DEFAULT_PROVIDERS, Entry, Size, Whole, twice
from batchyard.errors import InvalidConfig, shown
from batchyard.job import Name
from batchyard.model_settings import ModelSettings
from batchyard.yaml_file import read_yaml

_CAPABILITY = r"^[1-9][0-9]?\.[0-9]$"
Capability = Annotated[str, Field(pattern=_CAPABILITY, description="Compute capability, such as 6.1.")]


class Match(Entry):
    """What a machine must be for a profile; every condition that is given must hold."""

    device: Annotated[
        Literal["gpu", "cpu"],
        Field(description="A worker pinned to an NVIDIA GPU, or one on the processor."),
    ]
    min_compute_capability: Capability | None = None
    max_compute_capability: Capability | None = None
    gpu_name: Annotated[str | None, Field(description="Is part of the name that NVML gives the GPU.")] = None
    min_gpu_memory: Annotated[Size | None, Field(ge=1, description="Bytes on the GPU, at least.")] = None
    machines: Annotated[
        tuple[str, ...], Field(description="Names of processor architectures, as platform.machine().")
    ] = ()
    cpu_flags: Annotated[
        tuple[str, ...], Field(description="Flags that /proc/cpuinfo must all list, such as avx2.")
    ] = ()

    @model_validator(mode="after")
    def _of_one_device(self) -> "Match":
        gpu = (self.min_compute_capability, self.max_compute_capability, self.gpu_name, self.min_gpu_memory)
        if self.device == "cpu" and any(value is not None for value in gpu):
            raise ValueError("a profile for the cpu has no condition on a GPU")
        low, high = self.min_compute_capability, self.max_compute_capability
        if low is not None and high is not None and capability(low) > capability(high):
            raise ValueError(f"min_compute_capability {low} is above max_compute_capability {high}")
        return self


class Profile(Entry):
    """One kind of hardware: when it applies, what it needs, and what it sets."""

    profile_name: Annotated[Name, Field(description="Name, for --profile and for the log.")]
    description: str = ""
    match: Annotated[
        Match | None, Field(description="When it is chosen; null: only by --profile or a model's engine.")
    ] = None
    min_driver: Annotated[
        Whole | None, Field(ge=1, description="Oldest NVIDIA driver branch that will do, such as 525.")
    ] = None
    max_driver: Annotated[
        Whole | None, Field(ge=1, description="Last NVIDIA driver branch that runs this GPU.")
    ] = None
    omp_spin_count: Annotated[
        Whole | None, Field(ge=0, description="GOMP_SPINCOUNT of the engine; null leaves OpenMP's own.")
    ] = 2000
    execution_providers: Annotated[
        tuple[str, ...], Field(min_length=1, description="ONNX Runtime's providers, best first.")
    ] = DEFAULT_PROVIDERS
    settings: Annotated[
        ModelSettings, Field(description="Settings of a model where its catalogue entry leaves them out.")
    ] = ModelSettings()


class Hardware(Entry):
    """All profiles; of those that match a machine the first one is taken."""

    profile_list: Annotated[tuple[Profile, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> "Hardware":
        again = twice(profile.profile_name for profile in self.profile_list)
        if again is not None:
            raise ValueError(f"profile_name {again!r} is there twice")
        return self

    def profile(self, name: str) -> Profile:
        """The profile of that name.

        Raises:
            InvalidConfig: code `unknown_profile`.
        """
        for profile in self.profile_list:
            if profile.profile_name == name:
                return profile
        raise InvalidConfig(
            f"no profile {shown(name)}; there are "
            f"{', '.join(profile.profile_name for profile in self.profile_list)}",
            code="unknown_profile",
            field="--profile",
            remedy="name one of these, or add it under profile_list",
        )


def capability(text: str) -> tuple[int, int]:
    """A compute capability as NVML gives it: "6.1" is (6, 1)."""
    major, minor = text.split(".")
    return int(major), int(minor)


def load_hardware(path: Path) -> Hardware:
    """The profiles in the YAML file `path`.

    Raises:
        InvalidConfig: naming the key, the value and the remedy.
    """
    return parse_hardware(read_yaml(path), str(path))


def parse_hardware(data: object, source: str) -> Hardware:
    """The profiles in plain data; `source` names it in errors."""
    try:
        return Hardware.model_validate(data)
    except ValidationError as exc:
        raise config_error(exc, source) from None


def hardware_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the profiles' file."""
    schema = Hardware.model_json_schema()
    own = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Batchyard hardware profiles"}
    return own | {key: value for key, value in schema.items() if key not in own}
