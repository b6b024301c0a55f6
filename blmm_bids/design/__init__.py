"""Model spec and observation table in, design and contrasts out."""
