"""Classes of the tests themselves may stand in configs: nothing else does by itself."""

import os

os.environ.setdefault("PRACTICUM_ALLOW_MODULES", "tests")
