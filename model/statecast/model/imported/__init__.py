"""Networks that were trained elsewhere: recurrent layers, a head, and the scaling of their inputs and outputs."""
