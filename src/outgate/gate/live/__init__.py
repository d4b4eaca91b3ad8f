"""What a reload means for connections that are open: each is judged again, and cut or reported."""
