"""``python -m carme_hub``: the same as the `carme` command."""

from carme_hub.cli import main

main()
