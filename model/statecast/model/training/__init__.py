"""Trains a model on a panel and writes its folder."""
