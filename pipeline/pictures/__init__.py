"""Pictures for people: renderings of scans and registrations, sheets and grids."""
