"""Imports networks that were trained elsewhere: reads their weights, checks them, and writes a model's folder."""
