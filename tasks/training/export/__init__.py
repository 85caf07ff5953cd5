"""export: what was transcribed in a span of time becomes training data in S3.

Three passes, each of which goes on where it was broken off: ``choose`` decides on every segment, job by job;
``divide`` puts people into train or val; ``write`` writes the clips, and then the lists of them. The manifest
comes last: where it is, all is.
"""
