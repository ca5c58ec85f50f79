"""The load client: sends requests on schedule, reads streams, and watches itself."""
