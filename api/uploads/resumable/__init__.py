"""Uploads that come piece by piece: by the tus protocol, or in parts that clients write to storage themselves."""
