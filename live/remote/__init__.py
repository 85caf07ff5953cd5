"""Stages in other processes, reached over gRPC: the clients behind the Protocols of :mod:`live.stages`."""
