"""Indexes over HTTP: flatcoat's own API, those that clients already speak, and a page to search with."""
