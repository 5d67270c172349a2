"""Pictures as OpenAI's clients send them."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image


def image_part(image: Image.Image, kind: str = "PNG", **options: Any) -> Any:
    """A picture as a part of an input."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}
