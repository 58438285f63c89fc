"""Whether stored runs are what they say: verification, bundles, signatures."""
