"""The page to look at: sessions, their forecasts as observations arrive, and models. It changes nothing."""
