"""Who is who: people within and across sources, and the split each falls into."""
