"""Test settings: property tests repeat exactly and have no clock."""

from hypothesis import settings

settings.register_profile("book", derandomize=True, deadline=None, max_examples=30)
# For a second run of the same tests on another Python.
settings.register_profile("few", parent=settings.get_profile("book"), max_examples=5)
settings.load_profile("book")
