"""How far a scan shows mouth and eyes open: read from sections through lips and lids."""
