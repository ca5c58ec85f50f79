"""What all tests share: hypothesis profiles, and a clean environment."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

_CALM = [HealthCheck.too_slow, HealthCheck.data_too_large]
# A gate answers twice the same: what CI runs draws the same examples each time. `make nightly` draws new ones.
settings.register_profile(
    "quick", max_examples=25, deadline=None, suppress_health_check=_CALM, derandomize=True
)
settings.register_profile(
    "test", max_examples=200, deadline=None, suppress_health_check=_CALM, derandomize=True
)
settings.register_profile("nightly", max_examples=10_000, deadline=None, suppress_health_check=_CALM)
settings.load_profile(os.environ.get("ASSAY_HYPOTHESIS", "test"))


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the ledger or the settings of whoever runs it."""
    for name in list(os.environ):
        if name.startswith("ASSAY_") and name != "ASSAY_HYPOTHESIS":
            monkeypatch.delenv(name)
