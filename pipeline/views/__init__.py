"""Photos and renders of scans for networks, with their cameras, parts and landmarks."""
