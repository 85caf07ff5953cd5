"""export: transcripts of a span of time become training data in S3.

Three passes, each of which resumes where it was interrupted: ``selection`` decides on every segment, job by job;
``splits`` assigns people to train or val; ``clips`` and ``lists`` write the files. The manifest is written last:
an export that has one is complete.
"""
