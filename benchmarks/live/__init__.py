"""Live sessions, on real speech played at real time."""
