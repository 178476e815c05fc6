"""Zentinel, from its crate: `bench/get-peers zentinel` builds it (half an hour
on two cores)."""


def zentinel_plain(world):
    from rows import Skip
    raise Skip("zentinel is not built")


def zentinel_agent(world):
    from rows import Skip
    raise Skip("zentinel is not built")
