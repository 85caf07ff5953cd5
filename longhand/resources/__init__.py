"""What a client can do, by the kind of thing it is done to."""
