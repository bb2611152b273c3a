"""The workers, as their load reports describe them."""
