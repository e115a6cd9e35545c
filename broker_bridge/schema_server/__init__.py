"""A folder of schemas served as a schema registry."""
