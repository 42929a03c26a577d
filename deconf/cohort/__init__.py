"""The patients, their table and their embeddings."""
