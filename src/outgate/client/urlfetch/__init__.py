"""URL Fetch, as a program sees it: asking, what came, and ``http.client`` on top of it."""
