"""Decide what the gates of a fleet believe of each other: names, terms, tokens, and what they say on a link."""
