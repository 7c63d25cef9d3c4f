"""How hypothesis runs here."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is not a failure: no deadlines, and slow data generation is allowed. What fails prints its seed.
settings.register_profile("pathcast", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pathcast")
