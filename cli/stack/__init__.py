"""The whole product on one machine: its servers and processes, and their supervisor."""
