"""What runs in an instance: it loads the app, serves it, and runs deferred functions."""
