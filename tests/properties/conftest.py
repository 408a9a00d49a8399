"""How the laws are searched: moderately, without deadlines, since no test may judge time."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "laws", max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("laws")
