"""The profiles: what the original's rules refuse and let pass, and where Google's ranges come from."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.address import google
from outgate.core.policy.decide import Ask, Policy, could_resolve, decide
from outgate.core.policy.lint import lint
from outgate.core.profiles import APP_ENGINE, DEFAULT, PROFILES


def policy(profile=APP_ENGINE, **lists):
    """Return the policy of an app that has a profile, as the configuration makes it."""
    known = PROFILES[profile]
    return Policy.build(
        built_in=known.denials, exempt=known.exceptions, groups={**known.groups, **lists.pop("groups", {})}, **lists
    )


def verdict(rules, address, port, transport="tcp", name=None):
    """Return verdict and rule of a decision."""
    found = decide(rules, Ask("default", transport, name or address, address, port, name))
    return found.verdict, found.rule


@pytest.mark.parametrize("address", ["142.250.74.36", "172.217.16.142", "2a00:1450:4001:800::200e", "8.8.8.9"])
def test_googles_own_ranges_are_blocked_and_by_default_are_not(address):
    """S12: private, broadcast, multicast and Google's ranges are blocked; by default Google is like anybody."""
    assert verdict(policy(), address, 443) == ("deny", "google")
    assert verdict(policy(DEFAULT), address, 443) == ("allow", "public")


@pytest.mark.parametrize("address", ["34.76.1.1", "35.195.0.10", "104.155.1.1", "146.148.9.9", "2600:1900:4000::1"])
def test_addresses_of_googles_customers_are_not_googles(address):
    """Compute Engine's were not counted as Google's."""
    assert verdict(policy(), address, 443) == ("allow", "public")


@pytest.mark.parametrize("address", ["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_public_dns_is_an_exception_at_port_53_alone(address, transport):
    """S12, the first exception."""
    assert verdict(policy(), address, 53, transport)[0] == "allow"
    assert verdict(policy(), address, 443, transport) == ("deny", "google")


@pytest.mark.parametrize(
    ("name", "ports"), [("smtp.gmail.com", (465, 587)), ("pop.gmail.com", (995,)), ("imap.gmail.com", (993,))]
)
def test_gmail_is_an_exception_by_name_and_port(name, ports):
    """S12, the other three: to that name, at those ports, over TCP."""
    rules = policy()
    for port in (465, 587, 993, 995, 443, 25):
        expected = "allow" if port in ports else "deny"
        assert verdict(rules, "142.250.74.108", port, name=name)[0] == expected
        assert verdict(rules, "142.250.74.108", port, "udp", name=name)[0] == "deny"
        assert verdict(rules, "142.250.74.108", port, name="www.google.com")[0] == "deny"


def test_gmails_name_lifts_no_loopback():
    """Whoever owns a zone decides what its names answer."""
    assert verdict(policy(), "127.0.0.1", 587, name="smtp.gmail.com") == ("deny", "non-public")


@pytest.mark.parametrize("profile", PROFILES)
def test_mail_goes_by_587_and_never_by_25(profile):
    """S11."""
    assert verdict(policy(profile), "93.184.216.34", 25) == ("deny", "*:25")
    assert verdict(policy(profile), "93.184.216.34", 25, "udp") == ("deny", "*:25")
    assert verdict(policy(profile), "93.184.216.34", 587)[0] == "allow"


def test_the_exceptions_open_their_look_ups():
    """A name that an exception has is looked up where no other is."""
    rules = policy(allow=[], names=[])
    assert could_resolve(rules, "smtp.gmail.com").verdict == "allow"
    assert could_resolve(rules, "www.google.com").verdict == "deny"


def test_the_configuration_says_newer_ranges():
    """A group of that name in the file is what the rule means."""
    rules = policy(groups={"google": ["198.41.0.0/24"]})
    assert verdict(rules, "198.41.0.4", 443) == ("deny", "google")
    assert verdict(rules, "142.250.74.36", 443) == ("allow", "public")


@pytest.mark.parametrize("profile", PROFILES)
def test_nobody_is_warned_of_rules_he_did_not_write(profile):
    """The rules of a profile are not linted."""
    assert lint(policy(profile)) == []


def test_the_shipped_ranges_are_what_the_command_would_make_of_them():
    """They are in order, joined, none of a customer's, and all parse."""
    assert google.own_ranges(google.RANGES) == google.RANGES


networks = st.builds(
    lambda address, length: str(ipaddress.ip_network((address << 16, length), strict=False)),
    st.integers(0, 2**16 - 1),
    st.integers(2, 16),
)


@given(st.lists(networks, max_size=6), st.lists(networks, max_size=6), st.integers(0, 2**32 - 1))
def test_own_ranges_are_one_less_the_other(announced, customers, number):
    """An address is in what is left where it is in the one and not in the other."""
    address = ipaddress.IPv4Address(number)

    def among(texts):
        return any(address in ipaddress.ip_network(text) for text in texts)

    assert among(google.own_ranges(announced, customers)) == (among(announced) and not among(customers))


@pytest.mark.parametrize(
    ("published", "complaint"),
    [
        ([], 'has no list "prefixes"'),
        ({"prefixes": {}}, 'has no list "prefixes"'),
        ({"prefixes": [{"service": "x"}]}, r"prefixes\[0\] has neither"),
        ({"prefixes": [{"ipv4Prefix": "8.8.8.0/24"}, {"ipv6Prefix": 5}]}, r"prefixes\[1\] has neither"),
        ({"prefixes": [{"ipv4Prefix": "8.8.8.8/24"}]}, r"prefixes\[0\]: 8.8.8.8/24 has host bits set"),
    ],
)
def test_a_file_of_another_form_is_refused(published, complaint):
    """With the entry that is wrong."""
    with pytest.raises(ValueError, match=complaint):
        google.prefixes(published)
