"""Take idle sockets from programs: where an app comes near its limit, or wherever its configuration says so."""
