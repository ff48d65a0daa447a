"""Input features: naive forecasts, seasonal lookups, the calendar and covariates."""
