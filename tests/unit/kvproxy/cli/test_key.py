from hashlib import sha256

import yaml
from click.testing import CliRunner

from kvproxy.cli.key import key
from kvproxy.settings.access import AccessSettings


def test_the_entry_lets_the_key_in_and_does_not_hold_it() -> None:
    done = CliRunner().invoke(key, ["alice"])
    assert done.exit_code == 0
    secret = done.stderr.removeprefix("key: ").strip()
    assert secret not in done.stdout
    access = AccessSettings.model_validate(yaml.safe_load(done.stdout)["access"])
    assert access.keys[0].name == "alice"
    assert access.keys[0].sha256 == sha256(secret.encode()).hexdigest()


def test_one_for_operators() -> None:
    done = CliRunner().invoke(key, ["ops", "--admin"])
    access = AccessSettings.model_validate(yaml.safe_load(done.stdout)["access"])
    assert access.keys[0].admin


def test_a_name_that_settings_would_refuse() -> None:
    done = CliRunner().invoke(key, ["team a"])
    assert (done.exit_code, done.stdout) == (2, "")


def test_no_two_keys_are_alike() -> None:
    runner = CliRunner()
    assert len({runner.invoke(key, ["a"]).stderr for _ in range(20)}) == 20
