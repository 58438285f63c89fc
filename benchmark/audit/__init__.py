"""Checks of stored runs against their records: verification, bundles, signatures."""
