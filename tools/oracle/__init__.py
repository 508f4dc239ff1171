"""What the tests compare stretto with: tiny seeded models and a plain numpy forward of each family."""
