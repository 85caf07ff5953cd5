"""The whole product on one machine: its servers and processes, and the supervisor that keeps them up."""
