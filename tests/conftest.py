"""Test settings: property tests repeat exactly and have no clock."""

from hypothesis import settings

settings.register_profile("book", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("book")
