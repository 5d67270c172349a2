"""An app as apps are (limits, spans, the way to models), whose only work is to ask the model `echo`.

`traced_app.py CONFIG.json`
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import uvicorn
from fastapi import Depends

from serving.apps.application import models, new_app, onward
from serving.apps.config import AppsConfig
from serving.apps.models_client import ModelsClient
from serving.apps.onward import Onward

config = AppsConfig.load(Path(sys.argv[1]))
app = new_app("review", config)


@app.post("/v1/moderations")
async def review(
    models: Annotated[ModelsClient, Depends(models)], onward: Annotated[Onward, Depends(onward)]
) -> list[float]:
    answer = await models.infer("echo", {"x": np.arange(3, dtype=np.float32)}, onward=onward)
    return [float(each) for each in answer["y"]]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=config.apps["review"].port, log_level="warning")
