"""Decide how much of a resource an app may still use: calendar windows, reservations, forecasts, paces."""
