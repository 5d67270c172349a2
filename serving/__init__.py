"""How it runs at a site: the fleet declaration, Triton, the apps, the front door, and the site's life."""
