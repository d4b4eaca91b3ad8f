"""Fetch URLs for programs: a request of theirs made by the gate, over sockets that are leases of theirs."""
