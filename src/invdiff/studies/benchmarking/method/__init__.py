"""The suite that compares estimators and objectives."""
