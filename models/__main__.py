"""`python -m models`: the house's commands alone; `headend models` is the same."""

from models.cli import app
from models.console import run

run(app)
