"""Puts the project root on the path, so that tests share what is in tests/support, and makes
property tests the same in every run.
"""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("seeded", derandomize=True)
# pytest --hypothesis-profile=searching: look for new counterexamples
settings.register_profile("searching", derandomize=False)
settings.load_profile("seeded")
