"""Pass sockets on: descriptors made and redeemed, who holds what, and one process alone where it asks for that."""
