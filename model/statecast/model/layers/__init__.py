"""Recurrent cells and the tensor operations below them."""
