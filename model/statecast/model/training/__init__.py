"""Train a model on a panel and write its folder."""
