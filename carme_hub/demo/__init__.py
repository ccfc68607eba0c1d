"""The demo site: a whole cluster with its directory and its hub, in namespaces of its own on one machine."""
