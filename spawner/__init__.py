"""One session is one Slurm job: what a site offers, what a person asks for, and how it runs.

``catalog``, ``request``, ``container``, ``script`` and ``failure`` decide and know neither tornado nor
JupyterHub; ``slurm`` is the only module that runs commands; ``watcher`` reads all jobs at once;
``spawner`` holds the steps together.
"""
