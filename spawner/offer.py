"""What CarmeSpawner offers and takes: its settings, the page's form, and options from form, link and API."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

from jupyterhub.spawner import Spawner, SpawnException
from traitlets import Dict, Instance, Integer, List, default, observe
from traitlets.config import Config
from wrapspawner import WrapSpawner

from carme_hub.spawner import failure, report
from carme_hub.spawner.backends import check_profiles, read_clusters
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.form import SpawnForm
from carme_hub.spawner.request import JobRequest, Person, RequestError, from_form, harmless
from carme_hub.spawner.settings import SessionSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

report.disarm_batchspawner()


class SessionError(SpawnException):  # type: ignore[misc]  # JupyterHub has no types
    """A start that fails, with the sentence where the hub's pages look for it."""

    def __init__(self, sentence: str, *, reason: str, status_code: int, log: str = "") -> None:
        super().__init__(sentence, reason=reason, status_code=status_code)
        self.jupyterhub_message = sentence
        if log:
            self.jupyterhub_html_message = failure.as_html(sentence, log)


class NotStartedYet(Exception):  # noqa: N818 - no error: a link fills in the form, a person presses Start
    """Shows the form with the options of a link."""

    jupyterhub_message = "Please check the session that the link asks for, and press Start."


def _no_link(record: logging.LogRecord) -> bool:
    """Filter for a log: JupyterHub takes every exception of a link for an error, and logs its traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], NotStartedYet))


def _checked_in_start(_spawner: Spawner, _options: object) -> None:
    """Do nothing here: `CarmeSpawner.start` checks the options, on every path and after every hook."""


def _options_form(spawner: OfferingSpawner) -> SpawnForm:
    return spawner.form()


class OfferingSpawner(SessionSettings, WrapSpawner):  # type: ignore[misc]  # wrapspawner has no types
    """The part of `carme_hub.spawner.spawner.CarmeSpawner` that deals with what can be asked for."""

    images = Dict(
        config=True,
        help="""Container images: name -> {"title", "path", "apps", "groups", "mounts"}. `path` is absolute,
        on the compute nodes; `apps` holds "lab" and "code-server"; without `groups` everybody may use it;
        `mounts` are names of CarmeSpawner.mounts.
        Example: {"base": {"title": "Base", "path": "/images/base.sif"}}""",
    )
    mounts = Dict(
        config=True,
        help="""Folders of the compute nodes that images can show: name -> {"source", "target", "read_only",
        "filesystem"}. A session sees the person's home, the mounts of its image, and nothing else.
        Example: {"data": {"source": "/beegfs/data", "target": "/data", "read_only": True}}""",
    )
    profiles = List(
        Dict(),
        config=True,
        help="""Kinds of sessions, in the order of the page: name, title, description; partition, account,
        qos, reservation, constraint as Slurm calls them; gpu_type or gpu_types, min_, max_ and
        default_gpus_per_node, max_nodes; cpus or cpus_per_gpu; memory or memory_per_gpu ("16G", on each
        node); max_time and default_time ("1-00:00:00"); images (the first is the default); groups that may
        use it; course {"material", "notebook"} makes it a course that starts with one click.""",
    )
    # poll() reads the watcher's picture and costs nothing.
    poll_interval = Integer(10, config=True, help="Seconds between two looks at the watcher's picture.")

    # wrapspawner makes this trait one that is None unless it is given.
    config = Instance(Config, (), {})

    @default("options_form")  # type: ignore[untyped-decorator]
    def _default_options_form(self) -> Any:
        return _options_form

    @default("options_from_form")  # type: ignore[untyped-decorator]
    def _default_options_from_form(self) -> Any:
        return self._read_form

    @default("apply_user_options")  # type: ignore[untyped-decorator]
    def _default_apply_user_options(self) -> Any:
        return _checked_in_start

    def __init__(self, **traits: Any) -> None:
        self._catalog: Catalog | None = None
        self._given: dict[str, str] | None = None
        super().__init__(**traits)

    @observe("images", "mounts", "profiles", "clusters")  # type: ignore[untyped-decorator]
    def _description_changed(self, _change: object) -> None:
        self._catalog = None

    @property
    def catalog(self) -> Catalog:
        """Return the site's description, checked."""
        if self._catalog is None:
            catalog = Catalog.load(self.images, self.mounts, self.profiles, "CarmeSpawner")
            check_profiles(catalog.profiles.values(), read_clusters(self.clusters))
            self._catalog = catalog
        return self._catalog

    @property
    def person(self) -> Person:
        """Return who this session belongs to."""
        return Person(self.user.name, frozenset(group.name for group in self.user.groups))

    def form(self) -> SpawnForm:
        """Return the page's fields, with what was asked for a moment ago, else with the last choice."""
        given, self._given = self._given, None
        if given is None:
            given = harmless(self.orm_spawner.user_options if self.orm_spawner else None)
        return SpawnForm.build(self.catalog.visible_to(self.person.groups), given)

    def parse_options(self, options: object) -> JobRequest:
        """Check options of any origin.

        Raises
        ------
        SessionError
            With status 400 and the sentence about what is not on offer.
        """
        try:
            return JobRequest.parse(options, self.catalog, self.person)
        except RequestError as error:
            raise SessionError(error.sentence, reason="options", status_code=400) from None

    def _read_form(self, form: Mapping[str, list[object]]) -> dict[str, str | int]:
        options = from_form(form)
        # After an error JupyterHub shows the form of the default server, whichever was meant.
        self.user.spawner._given = harmless(options)  # noqa: SLF001 - the same class
        chosen = self.parse_options(options).options()
        self.user.spawner._given = None  # noqa: SLF001 - the same class
        return chosen

    def options_from_query(self, query_data: Mapping[str, list[object]]) -> NoReturn:
        """Fill in the form from a link. A link never starts a job by itself."""
        options = from_form(query_data)
        self._given = harmless(options)
        self.parse_options(options)
        if isinstance(self.log, logging.Logger):
            self.log.addFilter(_no_link)  # the same filter a second time changes nothing
        raise NotStartedYet
