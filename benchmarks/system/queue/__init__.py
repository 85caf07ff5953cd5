"""The queue where it is large, beside another commit's and beside other queues."""
