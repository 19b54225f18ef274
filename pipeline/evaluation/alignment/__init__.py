"""How predictions are laid on truths."""
