"""How the images of a registered dataset get below the data root: copies found, archives fetched and unpacked."""
