import pytest
from pydantic import ValidationError

from kvproxy.settings.admin import AdminSettings


def test_an_address_is_read() -> None:
    assert AdminSettings().address() is None
    assert AdminSettings(listen="127.0.0.1:9090").address() == ("127.0.0.1", 9090)
    assert AdminSettings(listen="[::1]:0").address() == ("::1", 0)


@pytest.mark.parametrize("listen", ["9090", ":9090", "host", "host:port", "a b:1", "host:65536"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ValidationError):
        AdminSettings(listen=listen)
