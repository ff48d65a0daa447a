"""`statecast demo`: a server forecasts live data, is killed, and goes on where it was."""
