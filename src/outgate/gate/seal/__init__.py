"""Seal the sockets that the gate makes: nobody but the gate connects, binds or turns them, whoever holds them."""
