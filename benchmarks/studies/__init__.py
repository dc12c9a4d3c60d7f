"""The paper's studies redone in the small world, whose truth is known: `make reproduce` runs all of them."""
