"""Live sessions: a websocket in, a stream of events out, and a job whose chunks arrive over time."""

import os

# Read when gRPC is first imported. Its handlers of forks run in the child between fork and exec, and may abort it.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
