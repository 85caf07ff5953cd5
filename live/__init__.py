"""Live sessions: a websocket in, a stream of events out, and a job whose chunks arrive over time."""
