"""Which addresses are reached."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_app.errors import PictureError
from flamingo_app.interfaces.api.fetching import fetch_picture, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.192",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "ff02::1",
        "2001:0:1::",
    ],
)
def test_what_is_not_public_is_not_reached(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_what_is_public_is(address: str):
    assert is_public(address)


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fc00::/7"))
def test_private_networks_are_not_reached(address: object):
    assert not is_public(str(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a.png",
        "http://localhost/a.png",
        "http://[::1]/",
        "http://2130706433/",
        "ftp://8.8.8.8/",
        "http://u@8.8.8.8/",
        "http://",
        "http://[/",
    ],
)
def test_such_a_url_is_refused_in_one_line(url: str):
    with pytest.raises(PictureError, match="expected a picture at a public address"):
        fetch_picture(url)
