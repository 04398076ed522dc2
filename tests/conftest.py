"""What all tests share: compiled kernels are cached under build/, not in the user's cache, and kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["TEXPR_CACHE_DIR"] = str(Path(__file__).parent.parent / "build" / "test-cache")
