"""One benchmark a file: what it asks for, how it aligns, what it measures."""
