"""Envoy's Lua, from the files in `lua/`."""

from __future__ import annotations

from importlib import resources

from serving.router.xds import Json, extension


def source(*names: str, **constants: str) -> Json:
    """Envoy's `DataSource` of the scripts `names` as one text, after a Lua local for each of `constants`, the
    value of each an expression of Lua.
    """
    folder = resources.files("serving.router").joinpath("lua")
    head = (f"local {name} = {value}\n" for name, value in constants.items())
    texts = (folder.joinpath(f"{name}.lua").read_text("utf-8") for name in names)
    return {"inline_string": "".join([*head, *texts])}


def http_filter(name: str, *names: str, **constants: str) -> Json:
    """The HTTP filter `name`, which runs those scripts."""
    return extension(
        name,
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code=source(*names, **constants),
        # The scripts say themselves when a header that they set leads elsewhere: looking for the route again
        # costs as much as the script.
        clear_route_cache=False,
    )
