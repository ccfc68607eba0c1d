"""The hub-managed service `carme`: dashboard data, history, news, admin pages, in a process of their own.

It runs beside the hub (``python -m carme_hub.service``), so that pages never slow the hub down: when it is
slow or away, login, start and stop go on. The hub's proxy leads ``/services/carme/`` to it.

How to add a page
    A handler in a module of its own, and a line in `app.ROUTES`::

        class HistoryPage(PageHandler):
            async def get(self) -> None:
                rows = await asyncio.to_thread(history.of, self.site.records, self.person.name)
                self.render_page("history.html", rows=rows)

        routes = [(r"history", HistoryPage)]  # below /services/carme/

    ``self.person`` has come in through the hub's OAuth before the method runs: `name`, `admin`, `groups`,
    `scopes`, and ``may(scope, user=...)``. The template extends ``page.html`` as the hub's own pages do, and
    has ``base_url`` (the hub's, for links), ``carme_static`` (our files), ``service_url`` (ours), ``user``,
    ``parsed_scopes``, ``xsrf``, ``csp_nonce``, ``version_hash``. A form is a POST with ``<input name="_xsrf"
    value="{{ xsrf }}">``; who forgets it is refused. A refusal is ``raise Refused(403, "A sentence.")``, in
    pages and in the API.
How to add an API
    The same with `ApiHandler` and an address that begins with ``api/``: it answers ``self.answer(value)``
    (JSON) and reads ``self.body()`` (a JSON object, or a refusal). It wants ``X-XSRFToken: {{ xsrf }}`` of
    every request that comes with a cookie, also of GET: other people's sessions are of the same origin.
How to do something in the hub for somebody
    ``await self.as_person("DELETE", f"/users/{quote(name, safe='')}/server")`` calls the hub's API with the
    person's own token: the hub decides by the person's own scopes, of which `registration.PERSON_SCOPES` are
    handed on. What the service asks for itself (``site.ask_hub``), it may by `registration.SERVICE_SCOPES`.
How to add an event of the stream
    ``site.streams.publish("cluster", value)`` sends a JSON value to everybody who looks, and to whoever
    comes later; ``publish("sessions", value, person="rosa")`` to one person. What has to be read at connect
    is a source: ``site.streams.source("notices", load)`` with ``async def load(name): ...``; ``await
    site.streams.refresh("notices", name)`` reads it again when it has changed. In the page,
    `static/live.js`.
How to do something all the time
    ``async def run(site: Site) -> None`` with an endless loop, named in `app.BACKGROUND`. When it raises,
    that is logged, and it runs again.

The hub's part of all this is in `hub_pages` (redirects, which logins still hold) and `registration`.
"""
