"""`carme user` and `carme new-key`, which work without a hub."""

import argparse
import json

import pytest
from traitlets.config import Config

from carme_hub.authenticator import user_command
from carme_hub.authenticator.secretbox import new_key_file

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def config(tmp_path):
    new_key_file(tmp_path / "key")
    config = Config()
    config.JupyterHub.base_url = "/cluster/"
    config.CarmeAuthenticator.database_url = f"sqlite:///{tmp_path}/carme.sqlite"
    config.CarmeAuthenticator.secret_key_file = str(tmp_path / "key")
    return config


def carme(config, *words):
    parser = argparse.ArgumentParser()
    user_command.register(parser.add_subparsers(required=True))
    return user_command.run(parser.parse_args(words), config)


def test_a_list_for_people_and_for_programs(config, capsys):
    assert carme(config, "user", "list") == 0
    assert "Nobody has a device yet" in capsys.readouterr().out
    user_command.open_store(config).add_totp("alice", SECRET)
    assert carme(config, "user", "list") == 0
    assert capsys.readouterr().out.startswith("alice ")
    assert carme(config, "user", "list", "--json") == 0
    out = capsys.readouterr().out
    assert [(one["username"], one["devices"][0]["kind"]) for one in json.loads(out)] == [("alice", "totp")]
    assert SECRET not in out


def test_a_token_comes_with_the_page_to_take_it_to(config, capsys):
    assert carme(config, "user", "enrol-token", "Alice", "--hours", "2") == 0
    out = capsys.readouterr().out
    assert "/cluster/hub/enrol" in out
    assert "valid for 2 hours" in out
    token = out.split("\n\n")[1].strip()
    assert user_command.open_store(config).token_is_valid("alice", token)


def test_a_reset(config, capsys):
    user_command.open_store(config).add_totp("alice", SECRET)
    assert carme(config, "user", "reset", "alice") == 0
    assert user_command.open_store(config).devices("alice") == []
    assert carme(config, "user", "reset", "alice") == 1
    assert capsys.readouterr().err == "carme: alice has no device.\n"


@pytest.mark.parametrize(
    "words",
    [
        ["enrol-token", "../alice"],
        ["enrol-token", "alice\n"],
        ["enrol-token", "alice", "--hours", "0"],
        ["enrol-token", "alice", "--hours", "-1"],
        ["enrol-token", "alice", "--hours", "nan"],
        ["enrol-token", "alice", "--hours", "1e9"],
        ["reset", "*"],
    ],
)
def test_what_makes_no_sense_is_a_sentence(config, capsys, words):
    assert carme(config, "user", *words) == 1
    assert capsys.readouterr().err.startswith("carme: ")


def test_a_new_key_and_no_second_one_over_it(tmp_path, capsys):
    assert carme(Config(), "new-key", str(tmp_path / "new")) == 0
    assert carme(Config(), "new-key", str(tmp_path / "new")) == 1
    assert "left as it is" in capsys.readouterr().err


def test_a_missing_key_is_a_sentence(config, tmp_path, capsys):
    (tmp_path / "key").unlink()
    assert carme(config, "user", "list") == 1
    assert "carme new-key" in capsys.readouterr().err
