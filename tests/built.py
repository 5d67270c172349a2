"""Where tests build the real models, once for all of them.

The state directory `build/test-home` is kept between runs (`HEADEND_TEST_HOME` names another): a first run
takes minutes more.
"""

from __future__ import annotations

import os
from pathlib import Path

TEST_HOME = Path(os.environ.get("HEADEND_TEST_HOME") or Path(__file__).parents[1] / "build" / "test-home")
