"""Decide what may be fetched by URL Fetch, and with which headers: the limits of App Engine's."""
