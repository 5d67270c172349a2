"""A site on Kubernetes."""
