"""Put the project root on the path, for tests.support; make property tests reproducible."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# no deadlines: the machine may be busy
settings.register_profile("seeded", derandomize=True, deadline=None)
# pytest --hypothesis-profile=searching: look for new counterexamples
settings.register_profile("searching", derandomize=False, deadline=None)
settings.load_profile("seeded")
