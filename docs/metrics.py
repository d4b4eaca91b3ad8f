"""The page of metrics, from the one table of them."""

from collections.abc import Callable

from outgate.gate.metrics import table

_PAGE = """\
# Metrics

<!-- Made by docs/generate.py; do not edit. -->

A gate counts for [Prometheus](https://prometheus.io) where its configuration names a place:

```toml
[gate]
metrics = "127.0.0.1:9464"                 # or a Unix socket: "/run/outgate/metrics.sock"
```

<!-- file: /etc/outgate.toml
version = 1
[gate]
metrics = "127.0.0.1:9464"
[apps.blog]
uid = [0]
billing = true
-->
<!-- before
$ outgate serve --config /etc/outgate.toml &
-->
```console
$ curl -s http://127.0.0.1:9464/metrics | grep sockets_held
# HELP outgate_sockets_held Sockets the gate holds, also those ready to be connected.
# TYPE outgate_sockets_held gauge
outgate_sockets_held{{app="blog"}} 0.0
```

A Unix socket is asked by `curl --unix-socket /run/outgate/metrics.sock http://gate/metrics`.

It is off by default, needs `prometheus-client` (`pip install 'outgate[gate]'`), and begins at the next start. In `etc/`
are the scrape (`prometheus.yml`), alerts (`outgate.rules.yml`) and a dashboard for Grafana
(`grafana-dashboard.json`: Dashboards, New, Import).

## Who may fetch them

Metrics name every app of the host, and have no password. A loopback port is open to every user of this host, and so to
every program that is not fenced; fenced ones do not reach it. An address that other hosts reach is refused unless
`metrics_exposed = true` stands beside it: put it behind something that asks who is there. A Unix socket is for its
owner and its group; make its folder of the scraper's group, with the set-group-ID bit (`chgrp prometheus`,
`chmod g+s`), and the socket will have it.

A scraper cannot hold the gate. The page is written a slice at a time between the requests of programs, once for all
who ask within a second, and no more often than leaves the gate nine tenths of its time. There are 16 connections; with
one more the oldest is closed. A request has five seconds to come, its answer twenty to be taken. Where the place is
taken by another process the gate serves programs all the same, says `metrics-failed` in its log, and tries again every
second.

## What is counted

Counts begin with the gate, and go on over a reload; a takeover carries those of apps along and begins the others anew,
which `rate()` and `increase()` expect. `app` has as many values as the configuration has apps, `address` as it has
doors; every other label is one of a few words of the gate's own. Nothing that a program chose is ever a label.

{metrics}

`verdict` is `allow`, `deny`, or `report` (let through, but would be denied); `kind` what the rule that decided is about
(`address`, `name`, `names`, `port`, `none`); `class` what the address is (`public`, `private`, `metadata`, …; empty
where a name was refused unasked); `code` the refusal's in [errors](errors.md), empty for `allow`. `how` is that of the
[log](log.md): `closed`, `process-ended`, `failed` (never connected), `reset` (by the far end), `idle` (reclaimed),
`killed`, `gate-ended`, `handed-over` (TLS to a proxy, which no other gate goes on with), and what cut it. The reason of
a door's refusal is in [doors](doors.md). The outcome of a look-up is `answered`, `missing` (no such name), `failed`,
`late` (no answer in the gate's patience) or `remembered`. `op` is the request: `new` (make sockets),
`connect`, `resolve`, …

Bytes are the application's, as the meter counts them, at most a second old; of the direct path too.

Of the process, under the names that all exporters have:

{process}

## Questions

Who is refused, where to, most of the last hour:

```promql
topk(10, sum by (app, class) (increase(outgate_decisions_total{{verdict="deny"}}[1h])))
```

How long does an open take in the gate, at the 99th percentile:

```promql
histogram_quantile(0.99, sum by (le) (rate(outgate_request_duration_seconds_bucket{{op="connect"}}[5m])))
```

Who comes near the sockets it may have open:

```promql
outgate_leases_open / outgate_leases_limit > 0.8
```

Who has used how much of the day's quota:

```promql
outgate_quota_used_ratio{{window="day"}}
```
"""

_SUFFIX = {"counter": "_total"}


def page(make_table: Callable[[tuple[str, ...], list[tuple[str, ...]]], str]) -> str:
    """Return docs/metrics.md."""

    def rows(metrics: tuple[table.Metric, ...]) -> list[tuple[str, ...]]:
        return [
            (
                f"`{metric.name}{_SUFFIX.get(metric.type, '')}`",
                metric.type,
                ", ".join(f"`{label}`" for label in metric.labels),
                metric.help,
            )
            for metric in metrics
        ]

    head = ("metric", "type", "labels", "is")
    return _PAGE.format(metrics=make_table(head, rows(table.METRICS)), process=make_table(head, rows(table.PROCESS)))
