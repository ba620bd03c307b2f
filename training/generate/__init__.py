"""Seeded generators of texts and their labels, split into train and held-out parts that share no wording."""
