"""Measurements: scripts that print one JSON object each; ``python -m bench`` runs them and keeps the results."""
