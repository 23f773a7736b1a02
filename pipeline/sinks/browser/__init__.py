"""The view in a web browser: a server on a thread of its own, and the page that it gives out."""
