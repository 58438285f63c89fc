"""Importers: annotations in a format that people have, read as `Annotations`; one file a format."""
