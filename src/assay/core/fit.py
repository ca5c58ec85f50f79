"""Fit: what a model needs, what a machine has, and the one word that follows. Bytes everywhere; nothing is launched."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from assay.core.base import Noun


class FitVerdict(StrEnum):
    """Whether a model fits. Only CANNOT prunes: it rests on a lower bound, all others on an estimate."""

    CANNOT = "cannot"
    UNCERTAIN = "uncertain"
    FITS = "fits"
    UNKNOWN = "unknown"


class Keeps(StrEnum):
    """What a layer remembers of the tokens before."""

    FULL = "full"
    """Keys and values of every token."""
    WINDOW = "window"
    """Keys and values of the last tokens; which ones depends on the layer's window or chunk."""
    LATENT = "latent"
    """One compressed vector a token (multi-head latent attention)."""
    STATE = "state"
    """A state of constant size: state-space layers, linear attention, short convolutions."""
    NOTHING = "nothing"
    """Nothing: feed-forward alone, or it reads what an earlier layer kept."""


class LayerGroup(Noun):
    """Layers that keep the same. A hybrid layer that keeps two things stands in two groups."""

    keeps: Keeps
    count: int = Field(ge=0)
    key_elements: int = Field(default=0, ge=0)
    """Elements of the keys of one token: kv heads x dimension of a head."""
    value_elements: int = Field(default=0, ge=0)
    """The same of the values."""
    window_tokens: int | None = Field(default=None, ge=1)
    """Tokens that a WINDOW layer looks back."""
    latent_elements: int = Field(default=0, ge=0)
    """LATENT: elements of the compressed vector and its rotary part. `key_elements` and `value_elements` are
    then what an engine keeps that expands it."""
    state_elements: int = Field(default=0, ge=0)
    """STATE: elements of the state of one sequence, convolution included."""

    @model_validator(mode="after")
    def _window_has_a_size(self) -> Self:
        if self.keeps is Keeps.WINDOW and self.window_tokens is None:
            raise ValueError("a window layer has window_tokens")
        return self

    @property
    def elements_per_token(self) -> int:
        """Keys and values of one token in one layer."""
        return self.key_elements + self.value_elements


class WeightBytes(Noun):
    """The weights by the headers of their files."""

    total: int = Field(ge=0)
    """All tensors, as stored."""
    aside: Mapping[str, int] = Field(default_factory=dict)
    """Bytes of parts that an engine may leave out: `vision`, `draft`, `tied`, `buffers`. They are in `total`."""
    by_scheme: Mapping[str, int] = Field(default_factory=dict)
    """Bytes by stored dtype."""
    vectors: int = Field(default=0, ge=0)
    """Elements in tensors of one dimension: GGUF writers keep them in F32."""
    elements: int = Field(default=0, ge=0)
    """Stored elements; weights only where nothing is quantized."""
    repacked: int = Field(default=0, ge=0)
    """GGUF: bytes that llama.cpp's CPU backend copies into a second layout."""
    mapped: int = Field(default=0, ge=0)
    """GGUF: bytes of the file that stay mapped beside the copies."""
    quantized: bool = False

    @property
    def needed(self) -> int:
        """What no engine can do without."""
        return self.total - sum(self.aside.values())


class ModelShape(Noun):
    """What of a model decides how much memory it takes."""

    source: str
    """Folder or file as the user named it."""
    format: str = ""
    """safetensors, gguf, or empty where only a config was read."""
    architecture: str = ""
    """`model_type` of config.json, `general.architecture` of GGUF."""
    layers: tuple[LayerGroup, ...] = ()
    hidden: int | None = None
    feed_forward: int | None = None
    """Width of the feed-forward part; of one expert where there are experts."""
    heads: int | None = None
    head_elements: int | None = None
    """Elements of the queries of one token: heads x dimension of a head."""
    vocabulary: int | None = None
    merges: int | None = None
    """Rules of a byte-pair tokenizer; engines keep them in memory. None = not told."""
    experts: int | None = None
    experts_used: int | None = None
    context_tokens: int | None = None
    """Longest context that it was made for."""
    dtype: str = ""
    """What config.json computes in: bfloat16, float16, float32."""
    weights: WeightBytes | None = None
    """None = the weights are not here."""
    unknown: tuple[str, ...] = ()
    """What could not be told. Nothing is guessed in its place: the verdict is `unknown`."""
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether everything that the memory depends on is known."""
        return not self.unknown and bool(self.layers)


class Part(StrEnum):
    """What memory goes to."""

    WEIGHTS = "weights"
    KV_CACHE = "kv_cache"
    ACTIVATIONS = "activations"
    ENGINE = "engine"


class MemoryPart(Noun):
    """One part of an estimate, in bytes."""

    name: Part
    lower: int = Field(ge=0)
    """Cannot be less: by the headers and the shapes."""
    estimate: int = Field(ge=0)
    upper: int = Field(ge=0)
    detail: str = ""
    """How it was reckoned, in a few words."""


class MemoryEstimate(Noun):
    """What one configuration of one engine needs."""

    engine: str
    context_tokens: int = Field(ge=1)
    """Of one request, prompt and answer together."""
    concurrency: int = Field(ge=1)
    """Requests at once."""
    kv_type: str
    parts: tuple[MemoryPart, ...] = ()
    unknown: tuple[str, ...] = ()
    """What is missing for an estimate; the lower bound holds all the same, over the parts that are there."""
    notes: tuple[str, ...] = ()

    @property
    def lower_bytes(self) -> int:
        """No configuration of this engine takes less for this context."""
        return sum(p.lower for p in self.parts)

    @property
    def estimate_bytes(self) -> int | None:
        """What it will take; None where something is unknown."""
        return None if self.unknown else sum(p.estimate for p in self.parts)

    @property
    def upper_bytes(self) -> int | None:
        """What it may take at most, by the calibrated ranges; None where something is unknown."""
        return None if self.unknown else sum(p.upper for p in self.parts)

    def part(self, name: Part) -> MemoryPart | None:
        """The part of that name."""
        return next((p for p in self.parts if p.name is name), None)


class Device(Noun):
    """One accelerator."""

    name: str
    index: int = Field(ge=0)
    total_bytes: int | None = Field(default=None, ge=0)
    """None where the driver does not tell, as it does of unified memory."""
    free_bytes: int | None = Field(default=None, ge=0)
    unified: bool = False
    """It shares the machine's memory and has none of its own."""
    source: str = ""
    """Who said so: nvidia-smi, sysfs, sysctl."""


class Serving(Noun):
    """How a model would be served; the names are those of the serve kinds' options."""

    engine: str = "llama_cpp"
    context_tokens: int = Field(default=4096, ge=1)
    """Of one request, prompt and answer together."""
    concurrency: int = Field(default=1, ge=1)
    """Requests at once: slots, sequences, blocks of the pool divided by the context."""
    kv_type: str = "auto"
    """Type of the KV cache; `auto` = what the engine takes by itself."""
    device: Literal["cpu", "gpu"] = "cpu"
    dtype: str = "auto"
    """What a checkpoint folder is loaded as (transformers), or written as (llama_cpp: F16)."""
    batch_tokens: int = Field(default=512, ge=1)
    """Tokens worked on at once: `ubatch_tokens` of llama_cpp, `max_batch_tokens` of transformers."""
    flash_attention: bool = True
    """Without it the scores of a whole batch lie in memory."""
    threads: int = Field(default=1, ge=1)
    pool_tokens: int | None = Field(default=None, ge=1)
    """Tokens of the KV pool, where it is set by itself (transformers: kv_blocks x kv_block_tokens)."""


class MachineMemory(Noun):
    """What this process may use, as the operating system tells it."""

    total_bytes: int | None = Field(default=None, ge=0)
    """Physical memory of the machine."""
    available_bytes: int | None = Field(default=None, ge=0)
    """Of it, what could be had now without swapping."""
    limit_bytes: int | None = Field(default=None, ge=0)
    """The tightest limit on this process: control group, container, ulimit. None = no limit."""
    limit_source: str = ""
    """Where the limit stands."""
    limit_used_bytes: int | None = Field(default=None, ge=0)
    """What counts against that limit already and cannot be given back."""
    swap_bytes: int = Field(default=0, ge=0)
    devices: tuple[Device, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be read."""


class FitLine(Noun):
    """The verdict on one configuration."""

    verdict: FitVerdict
    estimate: MemoryEstimate
    capacity_bytes: int | None = None
    """All that could ever be had here; `cannot` is held against it."""
    free_bytes: int | None = None
    """What can be had now; `fits` is held against it."""
    place: str = ""
    """Which memory: `memory`, or the accelerator."""
    detail: str
    """The reason in one sentence."""
