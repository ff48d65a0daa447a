"""The command `statecast demo`: a server forecasts live data, is killed, and resumes where it was."""
