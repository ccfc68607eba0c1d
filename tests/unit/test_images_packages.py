"""Packages: what counts as installed, how progress is read, that no service may start meanwhile."""

from __future__ import annotations

import subprocess

import pytest

from carme_hub.demo import packages


def test_missing_keeps_the_order_and_reads_the_states():
    status = "munge ii \nslapd rc \nsudo hi \nslurmdbd iF \nlibnss-ldapd:amd64 un \n"
    wanted = ["slapd", "munge", "nslcd", "sudo", "slurmdbd"]
    assert packages.missing(wanted, status) == ["slapd", "nslcd", "slurmdbd"]


def test_missing_asks_the_machine():
    assert packages.missing(["dpkg", "carme-hub-has-no-such-package"]) == ["carme-hub-has-no-such-package"]


def test_nothing_missing_does_nothing(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a command was run although nothing is missing")

    monkeypatch.setattr(packages, "missing", lambda _names: [])
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(packages, "_run", refuse)
    packages.ensure(refuse)


def test_without_root_the_error_says_what_is_missing_and_what_to_do(monkeypatch):
    monkeypatch.setattr(packages, "missing", lambda _names: ["munge"])
    monkeypatch.setattr(packages.os, "geteuid", lambda: 1000)
    with pytest.raises(packages.PackageError, match=r"munge.*sudo"):
        packages.ensure(lambda _line: None)


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("dlstatus:1:20.2381:Retrieving file 1 of 3", ("fetching", 20)),
        ("pmstatus:libc6:amd64:66.6667:Unpacking libc6 (amd64)", ("installing", 66)),
        ("pmconffile:/etc/x:50.0:'a' 'b' 1 1", None),
        ("pmstatus:dpkg-exec:done", None),
        ("anything else", None),
    ],
)
def test_progress(line, step):
    assert packages.progress(line) == step


def test_a_policy_forbids_services_and_goes_again(tmp_path):
    policy = tmp_path / "policy-rc.d"
    with packages._no_services(policy):
        assert subprocess.run([policy, "munge", "start"], check=False, timeout=10).returncode == 101
    assert not policy.exists()


def test_a_policy_of_the_machine_stays(tmp_path):
    policy = tmp_path / "policy-rc.d"
    policy.write_text("the admin's\n")
    with packages._no_services(policy):
        assert policy.read_text() == "the admin's\n"
    assert policy.read_text() == "the admin's\n"
