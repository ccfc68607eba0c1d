"""Rule 11: who is removed or reset is out everywhere, tokens included; an outage ends no work at once."""

from __future__ import annotations

import time

import ldap3
import pytest
import requests

from carme_hub.demo import ldap
from tests.integration.gate_world import (
    PASSWORDS,
    carme_user,
    code,
    gate_config,
    hub,
    slapd,
    wait_for,
)


def with_account(directory, port=None, **traits):
    """A gate with a service account that looks at everybody every second."""
    account = {
        "lookup_dn_search_user": directory.prepared.reader_dn,
        "lookup_dn_search_password": directory.prepared.reader_password,
        "auth_refresh_age": 1,
    }
    return gate_config(directory, port, **{**account, **traits})


@pytest.fixture(scope="module")
def gate(tmp_path_factory, directory):
    with hub(tmp_path_factory.mktemp("gate") / "hub", with_account(directory)) as running:
        yield running


class In:
    """Somebody with a browser and an API token."""

    def __init__(self, gate, somebody, username):
        self.browser = somebody
        secret = gate.enrol(username)
        assert somebody.login(username, PASSWORDS[username], code(secret)).status_code == 302
        made = gate.token(username, code(secret, 1))
        assert made.status_code == 201
        self.headers = {"Authorization": f"token {made.json()['token']}"}
        self.url = f"{gate.url}/hub/api/user"
        assert self.doors == [True, True]

    @property
    def doors(self):
        api = requests.get(self.url, headers=self.headers, timeout=10)
        return [self.browser.is_in, api.status_code == 200]


@pytest.fixture
def erin(gate):
    with gate.visitor() as somebody:
        yield In(gate, somebody, "erin")


def test_rule_11_who_is_removed_from_the_directory_is_out(directory, erin):
    dn = f"uid=erin,ou=people,{ldap.BASE}"
    with directory.manager() as manager:
        manager.search(dn, "(objectClass=*)", ldap3.BASE, attributes=["*"])
        kept = {
            name: values for name, values in manager.entries[0].entry_attributes_as_dict.items() if values
        }
        assert manager.delete(dn)
        try:
            wait_for(lambda: erin.doors == [False, False], "the end of both")
        finally:
            classes = kept.pop("objectClass")
            assert manager.add(dn, classes, kept), manager.result


def test_rule_11_a_reset_ends_browsers_and_tokens(gate, erin):
    carme_user(gate, "user", "reset", "erin", "--yes")
    wait_for(lambda: erin.doors == [False, False], "the end of both")
    # A login with a new device is not ended by the reset before it.
    with gate.visitor() as again:
        new = In(gate, again, "erin")
        assert new.doors == [True, True]
        assert erin.doors == [False, False]


def test_rule_11_a_login_right_after_a_reset_ends_what_was_before_it(gate):
    with gate.visitor() as before, gate.visitor() as after:
        thief = In(gate, before, "erin")
        gate.store.reset("erin")
        assert after.login("erin", PASSWORDS["erin"], code(gate.enrol_again("erin"))).status_code == 302
        assert thief.doors == [False, False]
        assert after.is_in


def test_who_is_in_and_due_for_a_refresh_may_open_the_login_page(gate, erin):
    time.sleep(1.1)  # the refresh is due
    sent = erin.browser.get("/hub/login?next=%2Fhub%2Ftoken", allow_redirects=False)
    assert (sent.status_code, sent.headers["Location"]) == (302, "/hub/token")
    assert "Traceback" not in gate.log


def test_rule_3_groups_and_admin_right_are_withdrawn_while_somebody_is_in(gate, directory):
    with gate.visitor() as somebody:
        carol = In(gate, somebody, "carol")
        assert gate.user("carol")["admin"]
        directory.set_members("hpc-admins", [])
        try:
            wait_for(lambda: carol.doors and not gate.user("carol")["admin"], "the loss of the right")
            assert gate.user("carol")["groups"] == []
            users = requests.get(f"{gate.url}/hub/api/users", headers=carol.headers, timeout=10)
            assert users.status_code == 403
        finally:
            directory.set_members("hpc-admins", ["carol"])
        wait_for(lambda: carol.doors and gate.user("carol")["admin"], "its return")


def test_rule_11_an_outage_ends_nothing_within_the_grace_time_and_everything_after(tmp_path):
    """The directory answers logins until it falls silent."""
    for grace, expected in ((3600, [True, True]), (2, [False, False])):
        folder = tmp_path / f"d{grace}"
        folder.mkdir()
        with slapd(folder) as other:
            config = with_account(other, refresh_grace=grace, receive_timeout=1, directory_deadline=1.5)
            with hub(tmp_path / f"hub{grace}", config) as gate, gate.visitor() as somebody:
                erin = In(gate, somebody, "erin")
                other.stop()
                wait_for(lambda: erin.doors and "the directory cannot say" in gate.log, "a failed look")  # noqa: B023
                wait_for(lambda: erin.doors == expected, "what is expected")  # noqa: B023


def test_rule_11_a_refresh_age_of_nothing_is_refused(directory, tmp_path):
    with (
        pytest.raises(AssertionError, match="auth_refresh_age must not be 0"),
        hub(tmp_path / "hub", gate_config(directory, auth_refresh_age=0)),
    ):
        pass


def test_deleting_a_user_removes_everything_but_the_audit_log(gate, erin):
    gate.store.new_recovery_codes("erin")
    gate.store.enrolments.new_token("erin", 1)
    headers = {"Authorization": f"token {gate.service_token}"}
    assert requests.delete(f"{gate.url}/hub/api/users/erin", headers=headers, timeout=10).status_code == 204
    assert erin.doors == [False, False]
    with gate.store.engine.connect() as connection:
        for table in ("device", "recovery", "enrolment"):
            count = connection.exec_driver_sql(
                f"SELECT count(*) FROM carme_{table} WHERE username = 'erin'"  # noqa: S608 - our own names
            ).scalar_one()
            assert count == 0, table
    assert gate.store.audit.entries("erin")
