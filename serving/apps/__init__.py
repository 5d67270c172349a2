"""The media applications and the Ray Serve part that runs them."""
