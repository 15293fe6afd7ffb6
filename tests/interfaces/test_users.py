"""Who may come in."""

import base64
from pathlib import Path

import pytest

from flamingo_app.errors import ConfigError
from flamingo_app.interfaces.users import Users, hashed, read_secrets


def basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


def test_secrets_are_read_plain_or_hashed(tmp_path: Path):
    kept = hashed("pass:word", b"salt")
    (tmp_path / "people").write_text(f"# people\n\nann:{kept}\nbob:plain\n")
    users = Users(passwords=read_secrets(tmp_path / "people"), keys={"robot": "key"})
    assert "pass" not in kept
    for _ in range(2):  # found, then remembered
        assert users.of_request(basic("ann", "pass:word")) == "ann"
    assert users.of_request(basic("bob", "plain")) == "bob"
    assert users.of_request("Bearer key") == "robot"
    for wrong in (basic("ann", "plain"), basic("eve", ""), "Bearer plain", "Bearer", "Basic !", "", "Digest x"):
        assert users.of_request(wrong) is None


@pytest.mark.parametrize("line", ["ann", "ann:", ":secret"])
def test_a_line_of_another_shape_is_named(tmp_path: Path, line: str):
    (tmp_path / "people").write_text(f"bob:plain\n{line}\n")
    with pytest.raises(ConfigError, match="got line 2 of"):
        read_secrets(tmp_path / "people")
    with pytest.raises(ConfigError, match="No such file"):
        read_secrets(tmp_path / "missing")
