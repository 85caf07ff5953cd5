"""What goes over the wire between a gateway and its stages: protos, Opus, and audio lost or overtaken."""
