"""The page of profiles, from the one table of them."""

from collections.abc import Callable

from outgate.core.address import google
from outgate.core.profiles import APP_ENGINE, DEFAULT, PROFILES, Profile
from outgate.core.quota.quotas import amount

_PAGE = """\
# Profiles

<!-- Made by docs/generate.py; do not edit. -->

A profile is the set of rules that an app's defaults come from. `default` keeps what App Engine's rules protected, and
lifts what were limits of its machinery. `app-engine` is the original to the letter, for code that was written for it
and for who wants to see it again:

```toml
[apps.blog]
uid = ["blog"]
billing = true
profile = "app-engine"
```

In the development server it stands under `outgate:` in app.yaml, and comes by itself with `runtime: python27`
([the development server](dev.md)). Whatever an app's own keys say comes before its profile: `quotas`, `idle_reclaim`,
`except` and the rest mean what they mean, and `deny` and `except` add to the profile's lists.

## Side by side

{table}

A program that runs keeps the socket options, the look-ups and the HTTP of the profile that it began with; policy,
quotas and idle limits follow a reload at once.

## What is the same in both

The standard API without special code; TCP and UDP alone; no listening sockets; sockets for paid apps alone; port 25
closed and 587 open; private, broadcast and multicast addresses blocked; descriptors of one app that no other can use;
sockets that pickle. Nor does `app-engine` bring back faults of the original's emulation: file numbers that no other
module understood, time-outs that were `EAGAIN`, refusals without a reason.

## Google's ranges

What comes along is Google's own list of {date}, less the large blocks of its cloud customers, which App Engine did not
count as Google's: {count} ranges. A newer one:

<!-- not run: needs the internet -->
```console
$ curl -O {source}
$ curl -O https://www.gstatic.com/ipranges/cloud.json
```

<!-- file: goog.json
{{"creationTime": "2026-11-20", "prefixes": [{{"ipv4Prefix": "8.8.4.0/24"}}, {{"ipv4Prefix": "34.80.0.0/15"}}]}}
-->
<!-- file: cloud.json
{{"prefixes": [{{"ipv4Prefix": "34.80.0.0/15"}}]}}
-->
```console
$ outgate ranges goog.json --customers cloud.json
...
[groups]
google = [
...
```

The group goes into the configuration, where it takes the place of the one that came along.
"""


def page(table: Callable[..., str]) -> str:
    """Return docs/profile.md."""
    default, original = PROFILES[DEFAULT], PROFILES[APP_ENGINE]

    def rules(texts: tuple[str, ...]) -> str:
        return ", ".join(f"`{text}`" for text in texts) or "none"

    def quotas(profile: Profile) -> str:
        said = [f"{quota.resource} {amount(quota.resource, quota.limit)} a {quota.per}" for quota in profile.quotas]
        return ", ".join(said) if len(said) < 4 else f"the original's {len(said)} ([quotas](quotas.md#app-engine))"

    return _PAGE.format(
        table=table(
            ("", "default", "app-engine"),
            [
                ("`deny`, before the app's own", rules(default.denials), rules(original.denials)),
                ("`except`, before the app's own", rules(default.exceptions), rules(original.exceptions)),
                ("`quotas`", quotas(default), quotas(original)),
                ("days of quotas by", default.zone, original.zone),
                ("`idle_reclaim`", f"`{default.idle_reclaim}`", f"`{original.idle_reclaim}`"),
                (
                    "socket options",
                    "those of [the table](options.md), really applied",
                    "the eight of App Engine: a set is validated and ignored, a get gives the value it always gave; "
                    "`SO_ERROR` is true; all else is `EACCES`",
                ),
                (
                    "`bind`",
                    "the wildcard or loopback, with port 0",
                    "the wildcard with port 0; urllib3 therefore takes the host for one without IPv6",
                ),
                (
                    "`gethostbyaddr()`",
                    "through the gate",
                    "`NotImplementedError`, and so `smtplib.SMTP` without `local_hostname`",
                ),
                (
                    "`http.client`",
                    "sockets",
                    "URL Fetch with its limits, unless `OUTGATE_HTTP=sockets` or `GAE_USE_SOCKETS_HTTPLIB` is in the "
                    "environment ([URL Fetch](urlfetch.md))",
                ),
                ("`import ssl` under `outgate dev`", "there", "where app.yaml lists the library"),
            ],
        ),
        date=google.DATE,
        source=google.SOURCE,
        count=len(google.RANGES),
    )
