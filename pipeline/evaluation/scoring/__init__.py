"""Cases scored, kept, tabled, shown and written down."""
