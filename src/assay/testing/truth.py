"""What the simulated engine really is: its speed, its memory, its noise, as pure functions of its knobs.

A study of the tuner's own quality needs no server: `throughput_tps` is the truth, `reading_tps` one noisy look at it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Truth:
    """One configuration of the simulated engine. Decoding reads weights and KV cache once a step for the whole batch."""

    slots: int = 4
    """Requests decoded together; further ones wait."""
    context_tokens: int = 2048
    """Per slot."""
    weights_bytes: float = 30e6
    kv_bytes_per_token: float = 16384.0
    bandwidth_bytes_s: float = 20e9
    step_overhead_s: float = 0.0005
    """Fixed time of a decode step."""
    sequence_overhead_s: float = 0.0002
    """Time that each sequence adds to a step."""
    prefill_tps: float = 20_000.0
    """Prompt tokens read per second; nothing is decoded meanwhile."""
    memory_bytes: float | None = None
    """What the machine has; None = enough."""
    fixed_bytes: float = 20e6
    """Process and buffers."""
    speed: float = 1.0
    """True effect of knobs that only change speed: 1.1 = 10 % faster throughout."""
    cv_between: float = 0.0
    """Coefficient of variation between launches."""
    cv_within: float = 0.0
    """The same between readings of one launch."""
    drift_frac: float = 0.0
    """Share of speed that the machine loses by launch `drift_over`."""
    drift_over: int = 40
    seed: int = 0

    @property
    def needed_bytes(self) -> float:
        """Memory of this configuration: weights, the KV cache of all slots, process."""
        kv = self.kv_bytes_per_token * self.context_tokens * self.slots
        return self.weights_bytes + kv + self.fixed_bytes

    @property
    def fits(self) -> bool:
        """Whether it can start."""
        return self.memory_bytes is None or self.needed_bytes <= self.memory_bytes

    def step_s(self, active: int, held_tokens: float) -> float:
        """Seconds of one decode step for so many sequences that hold so many tokens."""
        read = self.weights_bytes + self.kv_bytes_per_token * held_tokens
        fixed = self.step_overhead_s + active * self.sequence_overhead_s
        return (read / self.bandwidth_bytes_s + fixed) / self.speed

    def prefill_s(self, tokens: float) -> float:
        """Seconds to read so many prompt tokens."""
        return tokens / self.prefill_tps / self.speed

    def throughput_tps(self, prompt: int, output: int, concurrency: int) -> float:
        """True output tokens per second of a closed loop in its steady state, without noise."""
        active = min(self.slots, concurrency)
        held = active * (prompt + output / 2)
        return output / (self.prefill_s(prompt) + output * self.step_s(active, held) / active)

    def factor(self, launch: int, reading: int = 0) -> float:
        """How much faster than its truth the engine is in one reading of one launch: noise and drift."""
        lost = self.drift_frac * min(1.0, launch / max(1, self.drift_over))
        between = self._noise(f"{self.seed}/{launch}", self.cv_between)
        return (1.0 - lost) * between * self._noise(f"{self.seed}/{launch}/{reading}", self.cv_within)

    def reading_tps(self, prompt: int, output: int, concurrency: int, *, launch: int, reading: int) -> float:
        """One noisy measurement of `throughput_tps`."""
        return self.throughput_tps(prompt, output, concurrency) * self.factor(launch, reading)

    @staticmethod
    def _noise(name: str, cv: float) -> float:
        """A log-normal factor of median 1, the same for the same name."""
        sigma = math.sqrt(math.log1p(cv * cv))
        return math.exp(sigma * random.Random(name).gauss(0.0, 1.0)) if cv else 1.0  # noqa: S311
