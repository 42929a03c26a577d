"""A structural model of metadata and embedding: abduction, action, prediction."""
