import pytest
from pydantic import ValidationError

from kvproxy.settings.replica import ReplicaSettings


@pytest.mark.parametrize(
    ("given", "url", "name"),
    [
        ("http://10.0.0.1:8000", "http://10.0.0.1:8000", "10.0.0.1:8000"),
        ("http://A.example/", "http://a.example:80", "a.example:80"),
        ("https://a.example", "https://a.example:443", "a.example:443"),
        ("http://[::1]:8000", "http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_a_url_is_enough(given: str, url: str, name: str) -> None:
    replica = ReplicaSettings.model_validate(given)
    assert (replica.url, replica.id) == (url, name)
    assert replica == ReplicaSettings.model_validate({"url": given})


def test_given_id_stays() -> None:
    assert ReplicaSettings.model_validate({"url": "http://a:1", "id": "rack-7"}).id == "rack-7"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("a:8000", "http:// or https://"),
        ("ftp://a", "http:// or https://"),
        ("http://", "no host"),
        ("http://a b:1", "no host"),
        ("http://a:99999", "[Pp]ort"),
        ("http://a:0", "[Pp]ort"),
        ("http://a/v1", "path or query"),
        ("http://a?x=1", "path or query"),
        ("http://user:hunter2@a:1", "api_key"),
    ],
)
def test_bad_urls_say_why(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why) as raised:
        ReplicaSettings.model_validate(url)
    assert "hunter2" not in raised.value.errors(include_input=False)[0]["msg"]


@pytest.mark.parametrize("bad", [{"weight": 0}, {"hbm_tokens": 0}, {"id": "a b"}, {"uri": "x"}])
def test_bounds(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ReplicaSettings.model_validate({"url": "http://a:1"} | bad)
